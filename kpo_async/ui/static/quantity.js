// Kubernetes' quantities, as the server writes them: cores or m, bytes or Mi.

const UNITS = { m: 0.001, Mi: 2 ** 20 };

/** Returns the number of a quantity, -1 for none: it is sorted before all others. */
export function amount(quantity) {
  const [, number, unit] = /^([\d.]+)(\w*)$/.exec(quantity ?? "") ?? [];
  return number === undefined ? -1 : Number(number) * (UNITS[unit] ?? 1);
}

/** Returns a quantity as people write it. */
export function shown(quantity) {
  const [, number] = /^(\d+)Mi$/.exec(quantity) ?? [];
  return number >= 1024 && number % 256 === 0 ? `${number / 1024}Gi` : quantity;
}

/** Returns the request and the limit, empty without either. */
export function pair(request, limit) {
  return request || limit ? `${request ? shown(request) : "–"} / ${limit ? shown(limit) : "–"}` : "";
}
