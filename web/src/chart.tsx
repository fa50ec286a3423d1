import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { num, stamp, zone } from './format';
import { w } from './i18n';

const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HEIGHT = 220;

function options(width: number, unit: string): uPlot.Options {
  const axis = { stroke: color('--dim'), grid: { stroke: color('--rule'), width: 1 }, ticks: { stroke: color('--rule'), width: 1 } };
  return {
    width, height: HEIGHT, legend: { live: true }, cursor: { drag: { x: false, y: false } },
    tzDate: ts => zone === 'utc' ? uPlot.tzDate(new Date(ts * 1000), 'Etc/UTC') : new Date(ts * 1000),
    axes: [{ ...axis, values: (_, v) => v.map((t, i) => stamp(t * 1000).slice(i === 0 ? 5 : 11, 16)) }, { ...axis, size: 92, values: (_, v) => v.map(x => x === null ? '' : num(x, unit)) }],
    series: [
      { label: w.time, value: (_, t) => t === null ? '–' : stamp(t * 1000) },
      { label: w.out, stroke: color('--out'), width: 2, fill: color('--out') + '22', value: (_, v) => v === null ? '–' : num(v, unit) },
      { label: w.in, stroke: color('--in'), width: 2, value: (_, v) => v === null ? '–' : num(v, unit) },
    ],
  };
}

// Chart draws two series over time: out and in, per second.
export function Chart({ time, out, into, unit, label }: { time: number[]; out: number[]; into: number[]; unit: string; label: string }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const look = `${unit}|${zone}|${document.documentElement.dataset.theme ?? ''}|${w.out}`;
  useEffect(() => {
    const at = box.current!;
    plot.current = new uPlot(options(at.clientWidth, unit), [time, out, into], at);
    const resize = new ResizeObserver(() => plot.current?.setSize({ width: at.clientWidth, height: HEIGHT }));
    resize.observe(at);
    return () => { resize.disconnect(); plot.current?.destroy(); };
  }, [look]);
  useEffect(() => { plot.current?.setData([time, out, into]); }, [time, out, into]);
  return <div ref={box} class="plot" role="img" aria-label={label} />;
}

export interface Dot { t: number; remote: string; port: number; answered: boolean }

// Dots shows attempts: time against the remote address, in the order of the
// addresses as numbers, so that a sweep is a slope and a random scan is rain.
export function Dots({ dots, from, to }: { dots: Dot[]; from: number; to: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const look = document.documentElement.dataset.theme ?? '';
  useEffect(() => {
    const c = canvas.current!;
    const draw = () => paint(c, dots, from, to);
    draw();
    const resize = new ResizeObserver(draw);
    resize.observe(c);
    return () => resize.disconnect();
  }, [dots, from, to, look, zone]);
  const remotes = new Set(dots.map(d => d.remote)).size;
  return <canvas ref={canvas} class="dots" role="img" aria-label={w.scanPicture + ': ' + remotes + ' / ' + dots.length} />;
}

function paint(c: HTMLCanvasElement, dots: Dot[], from: number, to: number) {
  const ratio = window.devicePixelRatio || 1, width = c.clientWidth, height = c.clientHeight, foot = 22;
  c.width = width * ratio;
  c.height = height * ratio;
  const g = c.getContext('2d')!;
  g.scale(ratio, ratio);
  g.clearRect(0, 0, width, height);
  const order = [...new Set(dots.map(d => d.remote))].sort((a, b) => rank(a) < rank(b) ? -1 : 1);
  const row = new Map(order.map((r, i) => [r, i]));
  const y = (r: string) => 6 + (height - foot - 12) * (order.length > 1 ? row.get(r)! / (order.length - 1) : 0.5);
  const size = dots.length > 4000 ? 1.5 : dots.length > 800 ? 2.5 : 4;
  for (const d of dots) {
    g.fillStyle = color(d.answered ? '--in' : '--out');
    g.fillRect((width - size) * (d.t - from) / Math.max(1, to - from), y(d.remote) - size / 2, size, size);
  }
  g.fillStyle = color('--dim');
  g.font = '12px system-ui, sans-serif';
  g.textBaseline = 'bottom';
  for (const [f, align] of [[0, 'left'], [0.5, 'center'], [1, 'right']] as const) {
    g.textAlign = align;
    g.fillText(stamp(from + f * (to - from)).slice(to - from > 864e5 ? 5 : 11, 16), width * f, height);
  }
}

// rank orders addresses as numbers; IPv6 after IPv4.
function rank(a: string): string {
  if (a.includes('.')) return a.split('.').map(n => n.padStart(3, '0')).join('.');
  const [head, tail] = a.split('::');
  const h = head ? head.split(':') : [], t = tail ? tail.split(':') : [];
  const all = tail === undefined ? h : [...h, ...Array(Math.max(0, 8 - h.length - t.length)).fill('0'), ...t];
  return 'v6' + all.map(x => x.padStart(4, '0')).join(':');
}
