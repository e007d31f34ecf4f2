"""The fields of a Pod and their types: the spelling of keys, and the coercion of templates.

The API server ignores keys that it does not know, so a misspelt `run_as_user` would run the pod as root. `spell` turns
snake_case, which both clients' `to_dict()` writes, into Kubernetes' own spelling and refuses every other unknown key.

Templates are written in YAML, where `1`, `true` and dates are not strings, but a label must be one. The incumbent
passes them through the client's models, which coerce by type and raise for missing fields. `coerce`
does the same with the table below, without importing a client (0.8 s). The table is that of `VERSION`; a test
compares it with the models of the installed client.

    Type = field field:type field!:type      a field is a string unless a type is given; `!` marks a required one
    [T] a list of T, {T} a map of strings to T, any: taken as it is
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from kpo_async.exceptions import ManifestError
from kpo_async.models import ModelDict, is_model

Warn = Callable[[str], object]
VERSION = "Kubernetes 1.36"
"""The version whose fields are in the table."""
_SCALARS = frozenset({str, int, float, bool})
_LEAVES = _SCALARS | {type(None)}


class Field(NamedTuple):
    type: str
    required: bool


@cache
def fields() -> Mapping[str, Mapping[str, Field]]:
    """Return the parsed table: type -> field -> its type and whether it is required."""
    types: dict[str, dict[str, Field]] = {}
    for line in re.sub(r"\n\s+", " ", TABLE).strip().splitlines():
        name, _, columns = line.partition(" = ")
        types[name] = {}
        for column in columns.split():
            field, _, kind = column.partition(":")
            types[name][field.rstrip("!")] = Field(kind or "str", field.endswith("!"))
    return types


def spell(value: Any, kind: str, path: str) -> Any:
    """Return `value`, of the type `kind`, with all keys as Kubernetes spells them and without fields that are None.

    Only dicts and lists are looked into, so templates that Airflow renders later may stand anywhere. Messages call the
    value `path`. Raise ManifestError for a key that the type does not have, unless it comes from a model: a newer
    client may know more fields than the table.
    """
    return value if is_spelt(value, kind) else _spell(value, kind, path)


def is_spelt(value: Any, kind: str) -> bool:
    """Whether `spell` would neither change nor refuse `value`, which may have models in it. Fast: parsing calls it."""
    if isinstance(value, (list, tuple)):
        return all(is_spelt(item, kind[1:-1]) for item in value)
    known = fields().get(kind)
    if known is None:
        return True
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in known or item is None:
                return False
            if type(item) not in _SCALARS and not is_spelt(item, known[key].type):
                return False
    elif is_model(value):
        for attribute, key in type(value).attribute_map.items():
            item = getattr(value, attribute)
            if type(item) not in _LEAVES and key in known and not is_spelt(item, known[key].type):
                return False
    return True


def _spell(value: Any, kind: str, path: str) -> Any:
    if kind.startswith("[") and isinstance(value, list):
        return [_spell(item, kind[1:-1], f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict) or kind not in fields():
        return value
    known, trusted = fields()[kind], isinstance(value, ModelDict)
    result: dict[str, Any] = ModelDict() if trusted else {}
    for key, item in value.items():
        if item is None:
            continue
        name = key if key in known or trusted else _spelling(key, kind, path)
        if name in result:
            raise ManifestError(f"{path}.{name} is given twice, also as {key!r}: remove one of them")
        if isinstance(item, (dict, list)) and name in known:
            item = _spell(item, known[name].type, f"{path}.{name}")
        result[name] = item
    return result


def map_text(value: Any, kind: str, change: Callable[[str], Any]) -> Any:
    """Return `value`, of the type `kind`, with `change` applied to each string where the type takes only strings."""
    if isinstance(value, str):
        return change(value) if kind == "str" else value
    if isinstance(value, (list, tuple)) and kind.startswith("["):
        return [map_text(item, kind[1:-1], change) for item in value]
    if not isinstance(value, dict):
        return value
    if kind.startswith("{"):
        return {key: map_text(item, kind[1:-1], change) for key, item in value.items()}
    known = fields().get(kind, {})
    found = {key: known.get(key) or known.get(_in_camel_case(key, kind)) for key in value}
    types = {key: field.type if field else "any" for key, field in found.items()}
    return {key: map_text(item, types[key], change) for key, item in value.items()}


def _in_camel_case(key: object, kind: str) -> str:
    """Return the field that `key`, in snake_case, means, or ""."""
    return _by_letters(kind).get(str(key).replace("_", "").lower(), "") if "_" in str(key) else ""


@cache
def _by_letters(kind: str) -> Mapping[str, str]:
    """Return the fields of a type by their name in lower case."""
    return {name.lower(): name for name in fields().get(kind, ())}


def _spelling(key: object, kind: str, path: str) -> str:
    """Return the field that `key`, in snake_case, means. Raise ManifestError if there is none."""
    if name := _in_camel_case(key, kind):
        return name
    names, letters = _by_letters(kind), str(key).replace("_", "").lower()
    from difflib import get_close_matches  # only an error needs it

    inner = [f"{name}.{key}" for name, field in fields()[kind].items() if key in fields().get(field.type, ())]
    near = inner if len(inner) == 1 else [names[found] for found in get_close_matches(letters, names, n=1)]
    others = f"its fields (as of {VERSION}; a newer client's model may have more) are {', '.join(fields()[kind])}"
    hint = f"did you mean {near[0]}?" if near else others
    raise ManifestError(f"{path}.{key} is not a field of a {kind} in Kubernetes: {hint}")


def coerce(value: Any, kind: str, path: str, warn: Warn) -> Any:
    """Return `value` coerced to the type `kind` of the table; messages call it `path`.

    Keys must be spelt right, see `spell`. Call `warn` for strings that count as true.
    Raise ManifestError for a wrong shape, for text where a number is needed, and for missing required fields.
    """
    if value is None or kind == "any":
        return value
    if kind == "str":
        return str(value)
    if kind == "bool":
        return _bool(value, path, warn)
    if kind == "int":
        return _int(value, path)
    if kind.startswith("["):
        _expect(value, list, "a list", path)
        return [coerce(item, kind[1:-1], f"{path}[{index}]", warn) for index, item in enumerate(value)]
    _expect(value, Mapping, "a mapping", path)
    if kind.startswith("{"):
        return {key: coerce(item, kind[1:-1], f"{path}.{key}", warn) for key, item in value.items()}
    return _object(value, kind, path, warn)


def _object(value: Mapping[str, Any], kind: str, path: str, warn: Warn) -> dict[str, Any]:
    known = fields()[kind]
    result: dict[str, Any] = {}
    for key, item in value.items():
        field = known.get(key)
        if item is not None:
            result[key] = coerce(item, field.type, f"{path}.{key}", warn) if field else item
    for key, field in known.items():
        if field.required and key not in result:
            raise ManifestError(f"{path}.{key} is missing, a {kind} needs it")
    return ModelDict(result)


def _bool(value: Any, path: str, warn: Warn) -> bool:
    if isinstance(value, str) and value.lower() in ("false", "no", "off", "0"):
        warn(f"{path} is the string {value!r}, which counts as true: write false without quotes")
    return bool(value)


def _int(value: Any, path: str) -> Any:
    try:
        return int(value)
    except (ValueError, OverflowError):
        raise ManifestError(f"{path} is {value!r}, a whole number is needed") from None
    except TypeError:
        raise ManifestError(f"{path} is a {type(value).__name__}, a whole number is needed") from None


def _expect(value: Any, kind: type, name: str, path: str) -> None:
    if not isinstance(value, kind):
        raise ManifestError(f"{path} is a {type(value).__name__}, {name} is needed")


TABLE = """
CoreV1ResourceClaim = name! request
AWSElasticBlockStoreVolumeSource = fsType partition:int readOnly:bool volumeID!
Affinity = nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAntiAffinity
AppArmorProfile = localhostProfile type!
AzureDiskVolumeSource = cachingMode diskName! diskURI! fsType kind readOnly:bool
AzureFileVolumeSource = readOnly:bool secretName! shareName!
CSIVolumeSource = driver! fsType nodePublishSecretRef:LocalObjectReference readOnly:bool volumeAttributes:{str}
Capabilities = add:[str] drop:[str]
CephFSVolumeSource = monitors!:[str] path readOnly:bool secretFile secretRef:LocalObjectReference user
CinderVolumeSource = fsType readOnly:bool secretRef:LocalObjectReference volumeID!
ClusterTrustBundleProjection = labelSelector:LabelSelector name optional:bool path! signerName
ConfigMapEnvSource = name optional:bool
ConfigMapKeySelector = key! name optional:bool
ConfigMapProjection = items:[KeyToPath] name optional:bool
ConfigMapVolumeSource = defaultMode:int items:[KeyToPath] name optional:bool
Container = args:[str] command:[str] env:[EnvVar] envFrom:[EnvFromSource] image imagePullPolicy lifecycle:Lifecycle
    livenessProbe:Probe name! ports:[ContainerPort] readinessProbe:Probe resizePolicy:[ContainerResizePolicy]
    resources:ResourceRequirements restartPolicy restartPolicyRules:[ContainerRestartRule]
    securityContext:SecurityContext startupProbe:Probe stdin:bool stdinOnce:bool terminationMessagePath
    terminationMessagePolicy tty:bool volumeDevices:[VolumeDevice] volumeMounts:[VolumeMount] workingDir
ContainerPort = containerPort!:int hostIP hostPort:int name protocol
ContainerResizePolicy = resourceName! restartPolicy!
ContainerRestartRule = action! exitCodes:ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes = operator! values:[int]
DownwardAPIProjection = items:[DownwardAPIVolumeFile]
DownwardAPIVolumeFile = fieldRef:ObjectFieldSelector mode:int path! resourceFieldRef:ResourceFieldSelector
DownwardAPIVolumeSource = defaultMode:int items:[DownwardAPIVolumeFile]
EmptyDirVolumeSource = medium sizeLimit
EnvFromSource = configMapRef:ConfigMapEnvSource prefix secretRef:SecretEnvSource
EnvVar = name! value valueFrom:EnvVarSource
EnvVarSource = configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector fileKeyRef:FileKeySelector
    resourceFieldRef:ResourceFieldSelector secretKeyRef:SecretKeySelector
EphemeralContainer = args:[str] command:[str] env:[EnvVar] envFrom:[EnvFromSource] image imagePullPolicy
    lifecycle:Lifecycle livenessProbe:Probe name! ports:[ContainerPort] readinessProbe:Probe
    resizePolicy:[ContainerResizePolicy] resources:ResourceRequirements restartPolicy
    restartPolicyRules:[ContainerRestartRule] securityContext:SecurityContext startupProbe:Probe stdin:bool
    stdinOnce:bool targetContainerName terminationMessagePath terminationMessagePolicy tty:bool
    volumeDevices:[VolumeDevice] volumeMounts:[VolumeMount] workingDir
EphemeralVolumeSource = volumeClaimTemplate:PersistentVolumeClaimTemplate
ExecAction = command:[str]
FCVolumeSource = fsType lun:int readOnly:bool targetWWNs:[str] wwids:[str]
FileKeySelector = key! optional:bool path! volumeName!
FlexVolumeSource = driver! fsType options:{str} readOnly:bool secretRef:LocalObjectReference
FlockerVolumeSource = datasetName datasetUUID
GCEPersistentDiskVolumeSource = fsType partition:int pdName! readOnly:bool
GRPCAction = port!:int service
GitRepoVolumeSource = directory repository! revision
GlusterfsVolumeSource = endpoints! path! readOnly:bool
HTTPGetAction = host httpHeaders:[HTTPHeader] path port!:any scheme
HTTPHeader = name! value!
HostAlias = hostnames:[str] ip!
HostPathVolumeSource = path! type
ISCSIVolumeSource = chapAuthDiscovery:bool chapAuthSession:bool fsType initiatorName iqn! iscsiInterface lun!:int
    portals:[str] readOnly:bool secretRef:LocalObjectReference targetPortal!
ImageVolumeSource = pullPolicy reference
KeyToPath = key! mode:int path!
LabelSelector = matchExpressions:[LabelSelectorRequirement] matchLabels:{str}
LabelSelectorRequirement = key! operator! values:[str]
Lifecycle = postStart:LifecycleHandler preStop:LifecycleHandler stopSignal
LifecycleHandler = exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction tcpSocket:TCPSocketAction
LocalObjectReference = name
ManagedFieldsEntry = apiVersion fieldsType fieldsV1:any manager operation subresource time:any
NFSVolumeSource = path! readOnly:bool server!
NodeAffinity = preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
    requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
NodeSelector = nodeSelectorTerms!:[NodeSelectorTerm]
NodeSelectorRequirement = key! operator! values:[str]
NodeSelectorTerm = matchExpressions:[NodeSelectorRequirement] matchFields:[NodeSelectorRequirement]
ObjectFieldSelector = apiVersion fieldPath!
ObjectMeta = annotations:{str} creationTimestamp:any deletionGracePeriodSeconds:int deletionTimestamp:any
    finalizers:[str] generateName generation:int labels:{str} managedFields:[ManagedFieldsEntry] name namespace
    ownerReferences:[OwnerReference] resourceVersion selfLink uid
OwnerReference = apiVersion! blockOwnerDeletion:bool controller:bool kind! name! uid!
PersistentVolumeClaimSpec = accessModes:[str] dataSource:TypedLocalObjectReference dataSourceRef:TypedObjectReference
    resources:VolumeResourceRequirements selector:LabelSelector storageClassName volumeAttributesClassName volumeMode
    volumeName
PersistentVolumeClaimTemplate = metadata:ObjectMeta spec!:PersistentVolumeClaimSpec
PersistentVolumeClaimVolumeSource = claimName! readOnly:bool
PhotonPersistentDiskVolumeSource = fsType pdID!
Pod = apiVersion kind metadata:ObjectMeta spec:PodSpec status:any
PodAffinity = preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
    requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
PodAffinityTerm = labelSelector:LabelSelector matchLabelKeys:[str] mismatchLabelKeys:[str]
    namespaceSelector:LabelSelector namespaces:[str] topologyKey!
PodAntiAffinity = preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
    requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
PodCertificateProjection = certificateChainPath credentialBundlePath keyPath keyType! maxExpirationSeconds:int
    signerName! userAnnotations:{str}
PodDNSConfig = nameservers:[str] options:[PodDNSConfigOption] searches:[str]
PodDNSConfigOption = name value
PodOS = name!
PodReadinessGate = conditionType!
PodResourceClaim = name! resourceClaimName resourceClaimTemplateName
PodSchedulingGate = name!
PodSchedulingGroup = podGroupName
PodSecurityContext = appArmorProfile:AppArmorProfile fsGroup:int fsGroupChangePolicy runAsGroup:int runAsNonRoot:bool
    runAsUser:int seLinuxChangePolicy seLinuxOptions:SELinuxOptions seccompProfile:SeccompProfile
    supplementalGroups:[int] supplementalGroupsPolicy sysctls:[Sysctl] windowsOptions:WindowsSecurityContextOptions
PodSpec = activeDeadlineSeconds:int affinity:Affinity automountServiceAccountToken:bool containers!:[Container]
    dnsConfig:PodDNSConfig dnsPolicy enableServiceLinks:bool ephemeralContainers:[EphemeralContainer]
    hostAliases:[HostAlias] hostIPC:bool hostNetwork:bool hostPID:bool hostUsers:bool hostname hostnameOverride
    imagePullSecrets:[LocalObjectReference] initContainers:[Container] nodeName nodeSelector:{str} os:PodOS
    overhead:{str} preemptionPolicy priority:int priorityClassName readinessGates:[PodReadinessGate]
    resourceClaims:[PodResourceClaim] resources:ResourceRequirements restartPolicy runtimeClassName schedulerName
    schedulingGates:[PodSchedulingGate] schedulingGroup:PodSchedulingGroup securityContext:PodSecurityContext
    serviceAccount serviceAccountName setHostnameAsFQDN:bool shareProcessNamespace:bool subdomain
    terminationGracePeriodSeconds:int tolerations:[Toleration] topologySpreadConstraints:[TopologySpreadConstraint]
    volumes:[Volume]
PortworxVolumeSource = fsType readOnly:bool volumeID!
PreferredSchedulingTerm = preference!:NodeSelectorTerm weight!:int
Probe = exec:ExecAction failureThreshold:int grpc:GRPCAction httpGet:HTTPGetAction initialDelaySeconds:int
    periodSeconds:int successThreshold:int tcpSocket:TCPSocketAction terminationGracePeriodSeconds:int
    timeoutSeconds:int
ProjectedVolumeSource = defaultMode:int sources:[VolumeProjection]
QuobyteVolumeSource = group readOnly:bool registry! tenant user volume!
RBDVolumeSource = fsType image! keyring monitors!:[str] pool readOnly:bool secretRef:LocalObjectReference user
ResourceFieldSelector = containerName divisor resource!
ResourceRequirements = claims:[CoreV1ResourceClaim] limits:{str} requests:{str}
SELinuxOptions = level role type user
ScaleIOVolumeSource = fsType gateway! protectionDomain readOnly:bool secretRef!:LocalObjectReference sslEnabled:bool
    storageMode storagePool system! volumeName
SeccompProfile = localhostProfile type!
SecretEnvSource = name optional:bool
SecretKeySelector = key! name optional:bool
SecretProjection = items:[KeyToPath] name optional:bool
SecretVolumeSource = defaultMode:int items:[KeyToPath] optional:bool secretName
SecurityContext = allowPrivilegeEscalation:bool appArmorProfile:AppArmorProfile capabilities:Capabilities
    privileged:bool procMount readOnlyRootFilesystem:bool runAsGroup:int runAsNonRoot:bool runAsUser:int
    seLinuxOptions:SELinuxOptions seccompProfile:SeccompProfile windowsOptions:WindowsSecurityContextOptions
ServiceAccountTokenProjection = audience expirationSeconds:int path!
SleepAction = seconds!:int
StorageOSVolumeSource = fsType readOnly:bool secretRef:LocalObjectReference volumeName volumeNamespace
Sysctl = name! value!
TCPSocketAction = host port!:any
Toleration = effect key operator tolerationSeconds:int value
TopologySpreadConstraint = labelSelector:LabelSelector matchLabelKeys:[str] maxSkew!:int minDomains:int
    nodeAffinityPolicy nodeTaintsPolicy topologyKey! whenUnsatisfiable!
TypedLocalObjectReference = apiGroup kind! name!
TypedObjectReference = apiGroup kind! name! namespace
Volume = awsElasticBlockStore:AWSElasticBlockStoreVolumeSource azureDisk:AzureDiskVolumeSource
    azureFile:AzureFileVolumeSource cephfs:CephFSVolumeSource cinder:CinderVolumeSource
    configMap:ConfigMapVolumeSource csi:CSIVolumeSource downwardAPI:DownwardAPIVolumeSource
    emptyDir:EmptyDirVolumeSource ephemeral:EphemeralVolumeSource fc:FCVolumeSource flexVolume:FlexVolumeSource
    flocker:FlockerVolumeSource gcePersistentDisk:GCEPersistentDiskVolumeSource gitRepo:GitRepoVolumeSource
    glusterfs:GlusterfsVolumeSource hostPath:HostPathVolumeSource image:ImageVolumeSource iscsi:ISCSIVolumeSource
    name! nfs:NFSVolumeSource persistentVolumeClaim:PersistentVolumeClaimVolumeSource
    photonPersistentDisk:PhotonPersistentDiskVolumeSource portworxVolume:PortworxVolumeSource
    projected:ProjectedVolumeSource quobyte:QuobyteVolumeSource rbd:RBDVolumeSource scaleIO:ScaleIOVolumeSource
    secret:SecretVolumeSource storageos:StorageOSVolumeSource vsphereVolume:VsphereVirtualDiskVolumeSource
VolumeDevice = devicePath! name!
VolumeMount = mountPath! mountPropagation name! readOnly:bool recursiveReadOnly subPath subPathExpr
VolumeProjection = clusterTrustBundle:ClusterTrustBundleProjection configMap:ConfigMapProjection
    downwardAPI:DownwardAPIProjection podCertificate:PodCertificateProjection secret:SecretProjection
    serviceAccountToken:ServiceAccountTokenProjection
VolumeResourceRequirements = limits:{str} requests:{str}
VsphereVirtualDiskVolumeSource = fsType storagePolicyID storagePolicyName volumePath!
WeightedPodAffinityTerm = podAffinityTerm!:PodAffinityTerm weight!:int
WindowsSecurityContextOptions = gmsaCredentialSpec gmsaCredentialSpecName hostProcess:bool runAsUserName
"""
