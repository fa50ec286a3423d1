// What a tenant tried, as a picture: time to the right, addresses or ports
// upwards in the order of their numbers. A sweep is a slope, a random scan is
// rain, a client is a line.

export interface Dot { t: number; remote: string; port: number; proto: number; answered: boolean }
export interface Marker { t: number; text: string }

// Pattern is what a number of attempts looks like; it is told beside the picture
// and decides nothing. Of UDP and ICMP nobody can tell what was answered: a
// resolver has many peers and is no scanner.
export type Pattern = 'scan' | 'ports' | 'flood' | 'many' | 'client';
export interface Sum {
  tried: Dot[]; // without those that were answered
  answered: number;
  remotes: number; // distinct, tried
  ports: [string, number][]; // tried, by port, most first
  portCount: number;
  seconds: number;
  pattern: Pattern;
}

// Enough for the pattern to be named: below it anything is a client.
const MANY = 30;

export const portName = (d: Dot) => ({ 1: 'icmp', 6: 'tcp/', 17: 'udp/', 58: 'icmpv6' } as Record<number, string>)[d.proto] + (d.proto === 6 || d.proto === 17 ? d.port : '');

export function sum(dots: Dot[]): Sum {
  const tried = dots.filter(d => !d.answered);
  const remotes = new Set(tried.map(d => d.remote)).size, count = new Map<string, number>();
  for (const d of tried) count.set(portName(d), (count.get(portName(d)) ?? 0) + 1);
  const ports = [...count].sort((a, b) => b[1] - a[1]);
  let first = Infinity, last = -Infinity;
  for (const d of tried) { first = Math.min(first, d.t); last = Math.max(last, d.t); }
  const mostly = tried.length >= dots.length / 2, tcp = tried.filter(d => d.proto === 6).length >= tried.length / 2;
  let pattern: Pattern = 'client';
  if (!tcp) pattern = remotes >= MANY || ports.length >= MANY ? 'many' : tried.length >= 10 * MANY ? 'flood' : 'client';
  else if (mostly && remotes >= MANY) pattern = 'scan';
  else if (mostly && ports.length >= MANY) pattern = 'ports';
  else if (mostly && tried.length >= 10 * MANY) pattern = 'flood';
  return { tried, answered: dots.length - tried.length, remotes, ports, portCount: ports.length, seconds: tried.length ? Math.max(1, (last - first) / 1000) : 0, pattern };
}

// rank orders addresses as numbers; IPv6 after IPv4.
export function rank(a: string): string {
  if (a.includes('.')) return a.split('.').map(n => n.padStart(3, '0')).join('.');
  const [head, tail] = a.split('::');
  const h = head ? head.split(':') : [], t = tail ? tail.split(':') : [];
  const all = tail === undefined ? h : [...h, ...Array<string>(Math.max(0, 8 - h.length - t.length)).fill('0'), ...t];
  return 'v6' + all.map(x => x.padStart(4, '0')).join(':');
}

export interface Plot { x: (t: number) => number; y: (d: Dot) => number; rows: string[]; left: number; bottom: number; strip: number; width: number }
export interface Look { ink: string; dim: string; rule: string; ports: string[]; answered: string; mark: string }

const STRIP = 44, FOOT = 20, TOP = 8, GAP = 12;

// lay places rows and times; upward says what goes up.
export function lay(dots: Dot[], upward: 'remote' | 'port', from: number, to: number, width: number, height: number): Plot {
  const key = (d: Dot) => upward === 'remote' ? d.remote : String(d.port);
  const rows = [...new Set(dots.map(key))];
  if (upward === 'remote') rows.sort((a, b) => rank(a) < rank(b) ? 1 : -1); else rows.sort((a, b) => +b - +a);
  const at = new Map(rows.map((r, i) => [r, i]));
  const left = width < 560 ? 8 : rows.some(r => r.includes(':')) ? 190 : 112, bottom = height - STRIP - FOOT - GAP;
  return {
    rows, left, bottom, strip: height - FOOT, width,
    x: t => left + (width - left - 8) * (t - from) / Math.max(1, to - from),
    y: d => TOP + (bottom - 2 * TOP) * (rows.length > 1 ? at.get(key(d))! / (rows.length - 1) : 0.5),
  };
}

export function paint(g: CanvasRenderingContext2D, p: Plot, dots: Dot[], shown: string[], look: Look, markers: Marker[], ticks: [number, string][], fresh: string) {
  const middle = (p.bottom + TOP) / 2;
  g.font = '12px system-ui, sans-serif';
  g.strokeStyle = look.rule;
  g.strokeRect(p.left - 0.5, 0.5, p.width - p.left, p.bottom);
  for (const [t] of ticks) { g.beginPath(); g.moveTo(p.x(t), 0); g.lineTo(p.x(t), p.strip); g.stroke(); }
  const size = dots.length > 4000 ? 2 : dots.length > 800 ? 3 : 4;
  for (const d of dots) { // what was answered lies below what was not
    if (!d.answered) continue;
    g.strokeStyle = look.answered;
    g.strokeRect(p.x(d.t) - size / 2, p.y(d) - size / 2, size, size);
  }
  for (const d of dots) {
    if (d.answered) continue;
    g.fillStyle = look.ports[Math.max(0, shown.indexOf(portName(d)))] ?? look.ports.at(-1)!;
    g.fillRect(p.x(d.t) - size / 2, p.y(d) - size / 2, size, size);
  }
  strip(g, p, dots, look);
  g.fillStyle = look.dim;
  g.textBaseline = 'middle';
  if (p.left > 20) {
    g.textAlign = 'right';
    const n = p.rows.length - 1;
    if (n >= 0) g.fillText(p.rows[0], p.left - 6, TOP);
    if (n > 1) g.fillText(p.rows[n >> 1], p.left - 6, middle);
    if (n > 0) g.fillText(p.rows[n], p.left - 6, p.bottom - TOP);
    g.fillText(fresh, p.left - 6, p.strip - STRIP / 2);
  }
  g.textBaseline = 'bottom';
  for (const [t, text] of ticks) {
    g.textAlign = p.x(t) > p.width - 60 ? 'right' : p.x(t) < p.left + 40 ? 'left' : 'center';
    g.fillText(text, p.x(t), p.strip + FOOT);
  }
  for (const m of markers) {
    if (p.x(m.t) < p.left || p.x(m.t) > p.width) continue;
    g.strokeStyle = g.fillStyle = look.mark;
    g.beginPath(); g.moveTo(p.x(m.t), 0); g.lineTo(p.x(m.t), p.strip); g.stroke();
    g.textAlign = p.x(m.t) > p.width - 160 ? 'right' : 'left';
    g.textBaseline = 'top';
    g.fillText(m.text, p.x(m.t) + (g.textAlign === 'left' ? 4 : -4), 4);
  }
}

// strip counts below the dots how many addresses each moment adds: those of a
// client are few and at its start, a scanner goes on.
function strip(g: CanvasRenderingContext2D, p: Plot, dots: Dot[], look: Look) {
  const bins = new Array<number>(Math.max(1, Math.min(120, Math.floor((p.width - p.left) / 6)))).fill(0), seen = new Set<string>();
  const wide = (p.width - p.left - 8) / bins.length;
  for (const d of [...dots].sort((a, b) => a.t - b.t)) {
    if (seen.has(d.remote)) continue;
    seen.add(d.remote);
    const i = Math.floor((p.x(d.t) - p.left) / wide);
    bins[Math.max(0, Math.min(bins.length - 1, i))]++;
  }
  const most = Math.max(1, ...bins);
  g.fillStyle = look.ports[0];
  bins.forEach((n, i) => { const h = STRIP * n / most; g.fillRect(p.left + i * wide + 0.5, p.strip - h, Math.max(1, wide - 1), h); });
}
