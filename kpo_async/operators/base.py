"""The parameters of `KubernetesPodOperator`: their types and defaults, what they are stored as, and their templates."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from airflow.configuration import conf
from airflow.sdk import BaseOperator, get_parsing_context

from kpo_async import models
from kpo_async.exceptions import ConfigError, ManifestError
from kpo_async.hooks import settings
from kpo_async.json_types import Json
from kpo_async.operators import attributes, rendering
from kpo_async.operators.deprecated import resolve_action, resolve_durable, resolve_finish_action
from kpo_async.operators.start_from_trigger import PodOperatorPartial, StartArguments, StartFromTrigger, partial_of
from kpo_async.operators.validate import INLINE_KUBECONFIG, check_parameters
from kpo_async.pod.parameters import env_list, secret_references
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, OnKillAction

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from kpo_async.operators.killable_run import KillableRun

Model = Any
"""A Kubernetes object: a plain dict in the API's spelling, or a model of `kubernetes` or `kubernetes_asyncio`."""


class PodOperatorBase(BaseOperator):
    """An operator with the parameters of a pod. `KubernetesPodOperator` runs it."""

    BASE_CONTAINER_NAME: ClassVar[str] = "base"

    template_fields: Any = attributes.GivenFields(
        "image",
        "name",
        "hostname",
        "cmds",
        "annotations",
        "arguments",
        "env_vars",
        "labels",
        "config_file",
        "pod_template_file",
        "pod_template_dict",
        "namespace",
        "container_resources",
        "volumes",
        "volume_mounts",
        "cluster_context",
        "env_from",
        "configmaps",
        "node_selector",
        "kubernetes_conn_id",
        "base_container_name",
        "trigger_kwargs",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_vars": "py"}
    ui_color = "#d9e8ff"

    kubernetes_conn_id: str | None
    namespace: str | None
    image: str | None
    name: str | None
    random_name_suffix: bool
    cmds: list[str]
    arguments: list[str]
    ports: list[Model]
    volume_mounts: list[Model]
    volumes: list[Model]
    env_vars: list[Model] | dict[str, str]
    env_from: list[Model]
    secrets: list[Any]
    in_cluster: bool | None
    cluster_context: str | None
    cluster_hook: type | None
    cluster_hook_kwargs: dict[str, Any]
    labels: dict[str, Any]
    durable: bool
    startup_timeout_seconds: int
    startup_check_interval_seconds: int
    schedule_timeout_seconds: int
    get_logs: bool
    base_container_name: str
    base_container_status_polling_interval: float
    init_container_logs: Iterable[str] | str | Literal[True] | None
    container_logs: attributes.DefaultsTo | Iterable[str] | str | Literal[True] | None = attributes.DefaultsTo(
        "base_container_name"
    )
    image_pull_policy: str | None
    annotations: dict[str, Any]
    container_resources: Model | None
    affinity: Model
    config_file: str | None
    runtime_class_name: str | None
    node_selector: dict[str, str]
    image_pull_secrets: list[Model] | str
    service_account_name: str | None
    automount_service_account_token: bool | None
    hostnetwork: bool
    host_aliases: list[Model] | None
    tolerations: list[Model]
    security_context: Model
    container_security_context: Model | None
    xcom_sidecar_container_security_context: Model | None
    dnspolicy: str | None
    dns_config: Model | None
    hostname: str | None
    subdomain: str | None
    schedulername: str | None
    full_pod_spec: Model | None
    init_containers: list[Model]
    log_events_on_failure: bool
    log_events_on_startup: bool
    do_xcom_push: bool
    pod_template_file: str | None
    pod_template_dict: dict[str, Any] | None
    priority_class_name: str | None
    pod_runtime_info_envs: list[Model]
    termination_grace_period: int | None
    configmaps: list[str]
    skip_on_exit_code: Container[int]
    deferrable: bool
    poll_interval: float
    log_pod_spec_on_failure: bool
    on_finish_action: OnFinishAction
    on_kill_action: OnKillAction
    termination_message_policy: str
    active_deadline_seconds: int | None
    callbacks: list[Any]
    progress_callback: Callable[[str], None] | None
    logging_interval: int | None
    trigger_kwargs: dict[str, Any] | None
    container_name_log_prefix_enabled: bool
    log_formatter: Callable[[str, str], str] | None
    end_from_trigger: bool
    start_from_trigger: Any = StartFromTrigger()
    start_trigger_args: Any = StartArguments()
    xcom_transport: XComTransport
    companion_grace_seconds: float | None
    ignore_companions: Iterable[str] | str | Literal[True] | None
    retry_on_disruption: int
    on_oom: Mapping[str, Any] | None
    templates_read: rendering.SecretNames | None = None
    """What the templates have read that may be secret; None before they are rendered."""
    current_run: KillableRun | None
    """The run that `on_kill` ends, None while the task does not run in this process."""

    def __init__(
        self,
        *,
        kubernetes_conn_id: str | None = "kubernetes_default",
        namespace: str | None = None,
        image: str | None = None,
        name: str | None = None,
        random_name_suffix: bool = True,
        cmds: list[str] | None = None,
        arguments: list[str] | None = None,
        ports: list[Model] | None = None,
        volume_mounts: list[Model] | None = None,
        volumes: list[Model] | None = None,
        env_vars: list[Model] | dict[str, str] | None = None,
        env_from: list[Model] | None = None,
        secrets: list[Any] | None = None,
        in_cluster: bool | None = None,
        cluster_context: str | None = None,
        cluster_hook: type | None = None,
        cluster_hook_kwargs: dict[str, Any] | None = None,
        labels: dict[str, Any] | None = None,
        reattach_on_restart: bool | None = None,
        durable: bool | None = None,
        startup_timeout_seconds: int = 120,
        startup_check_interval_seconds: int = 5,
        schedule_timeout_seconds: int | None = None,
        get_logs: bool = True,
        base_container_name: str | None = None,
        base_container_status_polling_interval: float = 1,
        init_container_logs: Iterable[str] | str | Literal[True] | None = None,
        container_logs: Iterable[str] | str | Literal[True] | None = None,
        image_pull_policy: str | None = None,
        annotations: dict[str, Any] | None = None,
        container_resources: Model | None = None,
        affinity: Model | None = None,
        config_file: str | None = None,
        runtime_class_name: str | None = None,
        node_selector: dict[str, str] | None = None,
        image_pull_secrets: list[Model] | None = None,
        service_account_name: str | None = None,
        automount_service_account_token: bool | None = None,
        hostnetwork: bool = False,
        host_aliases: list[Model] | None = None,
        tolerations: list[Model] | None = None,
        security_context: Model | None = None,
        container_security_context: Model | None = None,
        xcom_sidecar_container_security_context: Model | None = None,
        dnspolicy: str | None = None,
        dns_config: Model | None = None,
        hostname: str | None = None,
        subdomain: str | None = None,
        schedulername: str | None = None,
        full_pod_spec: Model | None = None,
        init_containers: list[Model] | None = None,
        log_events_on_failure: bool = False,
        log_events_on_startup: bool = True,
        do_xcom_push: bool = False,
        pod_template_file: str | None = None,
        pod_template_dict: dict[str, Any] | None = None,
        priority_class_name: str | None = None,
        pod_runtime_info_envs: list[Model] | None = None,
        termination_grace_period: int | None = None,
        configmaps: list[str] | None = None,
        skip_on_exit_code: int | Container[int] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 2,
        log_pod_spec_on_failure: bool = True,
        on_finish_action: str = OnFinishAction.DELETE_POD,
        on_kill_action: str = OnKillAction.DELETE_POD,
        is_delete_operator_pod: bool | None = None,
        termination_message_policy: str = "File",
        active_deadline_seconds: int | None = None,
        callbacks: Sequence[Any] | type | None = None,
        progress_callback: Callable[[str], None] | None = None,
        logging_interval: int | None = None,
        trigger_kwargs: dict[str, Any] | None = None,
        container_name_log_prefix_enabled: bool = True,
        log_formatter: Callable[[str, str], str] | None = None,
        end_from_trigger: bool = settings.switch("end_from_trigger"),
        start_from_trigger: bool | None = None,
        xcom_transport: str = XComTransport.SIDECAR,
        companion_grace_seconds: float | None = settings.companion_grace(),
        ignore_companions: Iterable[str] | str | Literal[True] | None = settings.ignored_companions(),
        retry_on_disruption: int = settings.integer("retry_on_disruption"),
        on_oom: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            super().__init__(**kwargs)
        except TypeError:
            if "config_dict" in kwargs:  # the error that is being handled shows it
                raise ConfigError(INLINE_KUBECONFIG) from None
            raise
        plain = attributes.are_plain(type(self), PodOperatorBase)
        own = vars(self) if plain else {}
        # `locals()` would take a twentieth of the time of parsing a task.
        own["kubernetes_conn_id"] = kubernetes_conn_id
        own["namespace"] = namespace
        own["image"] = image
        own["name"] = name
        own["random_name_suffix"] = random_name_suffix
        own["cmds"] = cmds or []
        own["arguments"] = arguments or []
        own["ports"] = ports or []
        own["volume_mounts"] = volume_mounts or []
        own["volumes"] = volumes or []
        own["env_vars"] = env_vars or []
        own["env_from"] = env_from or []
        own["secrets"] = secrets or []
        own["in_cluster"] = in_cluster
        own["cluster_context"] = cluster_context
        own["cluster_hook"] = cluster_hook
        own["cluster_hook_kwargs"] = cluster_hook_kwargs or {}
        own["labels"] = labels or {}
        own["durable"] = resolve_durable(reattach_on_restart, durable)
        own["startup_timeout_seconds"] = startup_timeout_seconds
        own["startup_check_interval_seconds"] = startup_check_interval_seconds
        own["schedule_timeout_seconds"] = schedule_timeout_seconds or startup_timeout_seconds
        own["get_logs"] = get_logs
        own["base_container_name"] = base_container_name or self.BASE_CONTAINER_NAME
        own["base_container_status_polling_interval"] = base_container_status_polling_interval
        own["init_container_logs"] = init_container_logs
        if container_logs:
            own["container_logs"] = container_logs
        own["image_pull_policy"] = image_pull_policy
        own["annotations"] = annotations or {}
        own["container_resources"] = container_resources
        own["affinity"] = affinity or {}
        own["config_file"] = config_file
        own["runtime_class_name"] = runtime_class_name
        own["node_selector"] = node_selector or {}
        own["image_pull_secrets"] = secret_references(image_pull_secrets)
        own["service_account_name"] = service_account_name
        own["automount_service_account_token"] = automount_service_account_token
        own["hostnetwork"] = hostnetwork
        own["host_aliases"] = host_aliases
        own["tolerations"] = tolerations or []
        own["security_context"] = security_context or {}
        own["container_security_context"] = container_security_context
        own["xcom_sidecar_container_security_context"] = xcom_sidecar_container_security_context
        own["dnspolicy"] = dnspolicy
        own["dns_config"] = dns_config
        own["hostname"] = hostname
        own["subdomain"] = subdomain
        own["schedulername"] = schedulername
        own["full_pod_spec"] = full_pod_spec
        own["init_containers"] = init_containers or []
        own["log_events_on_failure"] = log_events_on_failure
        own["log_events_on_startup"] = log_events_on_startup
        own["do_xcom_push"] = do_xcom_push
        own["pod_template_file"] = pod_template_file
        own["pod_template_dict"] = pod_template_dict
        own["priority_class_name"] = priority_class_name
        own["pod_runtime_info_envs"] = pod_runtime_info_envs or []
        own["termination_grace_period"] = termination_grace_period
        own["configmaps"] = configmaps or []
        own["skip_on_exit_code"] = _as_container(skip_on_exit_code)
        own["deferrable"] = deferrable
        own["poll_interval"] = poll_interval
        own["log_pod_spec_on_failure"] = log_pod_spec_on_failure
        own["on_finish_action"] = resolve_finish_action(on_finish_action, is_delete_operator_pod)
        own["on_kill_action"] = resolve_action(OnKillAction, "on_kill_action", on_kill_action)
        own["termination_message_policy"] = termination_message_policy
        own["active_deadline_seconds"] = active_deadline_seconds
        own["callbacks"] = callbacks if isinstance(callbacks, list) else _as_list(callbacks)
        own["progress_callback"] = progress_callback
        own["logging_interval"] = logging_interval
        own["trigger_kwargs"] = trigger_kwargs
        own["container_name_log_prefix_enabled"] = container_name_log_prefix_enabled
        own["log_formatter"] = log_formatter
        own["end_from_trigger"] = end_from_trigger
        own["start_from_trigger"] = start_from_trigger
        own["xcom_transport"] = resolve_action(XComTransport, "xcom_transport", xcom_transport)
        own["companion_grace_seconds"] = companion_grace_seconds
        own["ignore_companions"] = ignore_companions
        own["retry_on_disruption"] = retry_on_disruption
        own["on_oom"] = on_oom
        own["current_run"] = None
        values = own if plain else attributes.store(self, own, PodOperatorBase)
        # A worker parses the whole file for one task. The DAG processor has checked the others.
        if get_parsing_context().task_id in (None, self.task_id):
            check_parameters(values)

    @classmethod
    def partial(cls, **kwargs: Any) -> PodOperatorPartial:
        """See Airflow's."""
        return partial_of(super().partial(**kwargs))

    def _validate_start_from_trigger_kwargs(self) -> None:
        # Airflow's looks for callables in `start_trigger_args`, which are JSON, and would compute them for each parse.
        pass

    def _set_xcomargs_dependencies(self) -> None:
        # Airflow's own search takes longer than the rest of a task's parsing, and most values hold no XComArg.
        for field in self.template_fields:
            value = getattr(self, field, None)
            if value and not models.is_literal(value):
                self._set_xcomargs_dependency(field, value)

    @classmethod
    def _to_trigger(cls, given: Mapping[str, Any]) -> Json:
        """Return what a task without a worker has beyond the parameters of a pod, in plain form, by parameter.

        `given` are the parameters of the task, or those that all instances of a mapped task share. Raises
        `NotPlainError` for what has no such form. For subclasses of this package.
        """
        return {}

    @classmethod
    def _from_trigger(cls, sent: Json) -> Json:
        """Return the parameters that `_to_trigger` was given, among all others of the task."""
        return sent

    def _manifest_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters that the manifest is built from: `values` are the operator's own."""
        return values

    def _after_rendering(self, context: Context) -> None:
        """Do what follows the rendering of the templates, on a worker or in a triggerer."""

    @property
    def reattach_on_restart(self) -> bool:
        """The old name of `durable`."""
        return self.durable

    @reattach_on_restart.setter
    def reattach_on_restart(self, value: bool) -> None:
        self.durable = value

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> Json:
        """See `KubernetesPodOperator`."""
        raise NotImplementedError

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render templates, those inside Kubernetes models too: a model becomes a plain dict and is not changed."""
        if type(content) is str and jinja_env and not self.template_ext and rendering.is_plain(content, jinja_env):
            return content
        if isinstance(content, models.ModelDict):
            return models.ModelDict(
                {key: self.render_template(item, context, jinja_env, seen_oids) for key, item in content.items()}
            )
        if not models.is_model(content):
            return super().render_template(content, context, jinja_env, seen_oids)
        environment = jinja_env or self.get_template_env()
        as_text = rendering.is_native(environment)

        def render(value: Any) -> Any:
            template = rendering.text_of_model(value, environment) if as_text else value
            return self.render_template(template, context, environment, seen_oids)

        return models.render(content, render)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        # Names of environment variables are templates too, but Airflow renders only the values of a dict. A mapped task
        # renders its unmapped operator without `render_template_fields`, so that method would be too late.
        if isinstance(parent, PodOperatorBase):
            if isinstance(parent.env_vars, dict):
                parent.env_vars = env_list(parent.env_vars)
            if rendering.is_native(jinja_env):
                for field in rendering.TEMPLATE_KINDS.keys() & set(template_fields):
                    if value := getattr(parent, field):
                        setattr(parent, field, rendering.with_text(field, value, jinja_env))
            parent.templates_read = rendering.SecretNames()
            context = cast("Context", parent.templates_read.noted_in(context))
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        if isinstance(parent, PodOperatorBase):
            # Airflow 3.1 does not store what is rendered to nothing.
            for field in template_fields:
                if isinstance(template := getattr(parent, field), rendering.TextTemplate):
                    setattr(parent, field, template.resolve(context))


def _as_container(codes: int | Container[int] | None) -> Container[int]:
    """Return `skip_on_exit_code` in the incumbent's form: a list, unless another container was given."""
    if isinstance(codes, str):
        raise ManifestError(f"skip_on_exit_code is {codes!r}: give a number, or a list of them")
    if isinstance(codes, int):
        return [codes]
    return [] if codes is None else codes


def _as_list(callbacks: Any) -> list[Any]:
    """Return `callbacks` as a list, to which a subclass may append."""
    if isinstance(callbacks, tuple):
        return list(callbacks)
    return [callbacks] if callbacks else []
