// Numbers for people. null stays null, so that whoever shows it must say that it is not known.

// From which size on, the scale, its prefix. Tenths stay as they are: joules per token are compared.
const SCALES = [
  [1e9, 1e9, "G"],
  [1e6, 1e6, "M"],
  [1e3, 1e3, "k"],
  [0.1, 1, ""],
  [0, 1e-3, "m"],
];

/** Three figures and a unit: 0.285 J, 1.43 kJ, 19 mJ. */
export function quantity(value, unit) {
  if (value === null || value === undefined) return null;
  if (value === 0) return `0 ${unit}`;
  const [, scale, prefix] = SCALES.find(([least]) => Math.abs(value) >= least * 0.9995);
  return `${figures(value / scale)} ${prefix}${unit}`;
}

export const joules = (value) => quantity(value, "J");
export const watts = (value) => quantity(value, "W");

export function wattHours(energyJoules) {
  return energyJoules === null ? null : quantity(energyJoules / 3600, "Wh");
}

/** Three significant figures, never in powers of ten. */
export function figures(value) {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.001 || size === 0) return value.toPrecision(3).replace(/\.?0+$/, "");
  return "< 0.001";
}

export function seconds(value) {
  if (value === null || value === undefined) return null;
  if (value < 0.0995) return `${figures(value * 1000)} ms`;
  if (value < 99.5) return `${figures(value)} s`;
  return duration(value);
}

/** Days, hours and minutes, the two largest. */
export function duration(value) {
  const parts = [
    [Math.floor(value / 86400), "d"],
    [Math.floor(value / 3600) % 24, "h"],
    [Math.floor(value / 60) % 60, "min"],
    [Math.floor(value) % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

export function percent(ratio) {
  if (ratio === null || ratio === undefined) return null;
  if (ratio > 0 && ratio < 0.001) return "< 0.1 %";
  if (ratio < 1 && ratio > 0.999) return "> 99.9 %";
  return `${ratio < 0.0995 ? (ratio * 100).toFixed(1) : (ratio * 100).toFixed(0)} %`;
}

export const count = (value) => (value === null || value === undefined ? null : value.toLocaleString("en-GB"));

/** The time of day at a Unix instant, as the reader's clock shows it. */
export function clock(unixSeconds, { withSeconds = true } = {}) {
  const at = new Date(unixSeconds * 1000);
  const parts = [at.getHours(), at.getMinutes(), ...(withSeconds ? [at.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
