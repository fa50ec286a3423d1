import { fill, lang, w } from './i18n';
import type { Holder } from './api';

const ZONE = 'flowcordon-zone';
export let zone: 'utc' | 'local' = localStorage.getItem(ZONE) === 'local' ? 'local' : 'utc';
export function setZone(z: 'utc' | 'local') { zone = z; localStorage.setItem(ZONE, z); }

export const whole = (n: number): string => n.toLocaleString(lang);

// decimal is a number with so many digits behind the sign that the language has.
export const decimal = (n: number, digits: number): string => n.toFixed(digits).replace('.', lang === 'ru' ? ',' : '.');

// num is a number with three digits and an SI prefix.
export function num(n: number, unit: string): string {
  const prefixes = lang === 'ru' ? 'ТГМк' : 'TGMk';
  for (const [i, f] of [1e12, 1e9, 1e6, 1e3].entries()) {
    if (n >= f) return decimal(n / f, n / f < 10 ? 2 : 1) + '\u00a0' + prefixes[i] + unit;
  }
  return (n < 10 && n % 1 ? decimal(n, 1) : Math.round(n)) + '\u00a0' + unit;
}

export const isTime = (t?: string): t is string => !!t && !t.startsWith('0001-');

const pad = (n: number) => String(n).padStart(2, '0');

// stamp is a moment in the chosen zone, ISO without the T.
export function stamp(t?: string | number): string {
  if (t === undefined || typeof t === 'string' && !isTime(t)) return '–';
  const d = new Date(t);
  if (zone === 'utc') return d.toISOString().slice(0, 19).replace('T', ' ');
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

export const clockOf = (t?: string | number) => stamp(t).slice(11);

export function age(t?: string): string {
  if (!isTime(t)) return '–';
  const s = Math.max(0, (Date.now() - Date.parse(t)) / 1000);
  for (const [f, u] of [[86400, 'd'], [3600, 'h'], [60, 'min']] as const) if (s >= f) return Math.floor(s / f) + '\u00a0' + w.ages[u];
  return Math.floor(s) + '\u00a0' + w.ages.s;
}

export const ago = (t?: string) => isTime(t) ? fill(w.ago, age(t)) : '–';

export const who = (h?: Holder): string => [h?.tenant, h?.vds].filter(Boolean).join(' · ') || w.notInventory;

export const proto = (n: number): string => ({ 1: 'icmp', 6: 'tcp', 17: 'udp', 47: 'gre', 58: 'icmpv6' } as Record<number, string>)[n] ?? String(n);

export const seconds = (s?: number): string => s === undefined ? '–' : Math.abs(s) < 1 ? Math.round(s * 1000) + '\u00a0' + w.ms : decimal(s, s < 10 ? 1 : 0) + '\u00a0' + w.ages.s;
