import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { num, stamp, zone } from './format';
import { w } from './i18n';

export const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HEIGHT = 190;

function options(width: number, unit: string, zoom: (from: number, to: number) => void, drag: boolean): uPlot.Options {
  const axis = { stroke: color('--dim'), grid: { stroke: color('--rule'), width: 1 }, ticks: { stroke: color('--rule'), width: 1 } };
  return {
    width, height: HEIGHT, legend: { live: true }, cursor: { drag: { x: drag, y: false, setScale: false } },
    hooks: { setSelect: [u => { if (u.select.width > 4) zoom(1000 * u.posToVal(u.select.left, 'x'), 1000 * u.posToVal(u.select.left + u.select.width, 'x')); }] },
    tzDate: ts => zone === 'utc' ? uPlot.tzDate(new Date(ts * 1000), 'Etc/UTC') : new Date(ts * 1000),
    axes: [{ ...axis, values: (_, v) => v.map((t, i) => stamp(t * 1000).slice(i === 0 ? 5 : 11, 16)) }, { ...axis, size: 92, values: (_, v) => v.map(x => x === null ? '' : num(x, unit)) }],
    series: [
      { label: w.time, value: (_, t) => t === null ? '–' : stamp(t * 1000) },
      { label: w.out, stroke: color('--out'), width: 2, fill: color('--out') + '22', value: (_, v) => v === null ? '–' : num(v, unit) },
      { label: w.in, stroke: color('--in'), width: 2, dash: [5, 3], value: (_, v) => v === null ? '–' : num(v, unit) },
    ],
  };
}

// Chart draws two series over time: out and in, per second.
export function Chart({ time, out, into, unit, label, zoom }: { time: number[]; out: number[]; into: number[]; unit: string; label: string; zoom?: (from: number, to: number) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(), zoomed = useRef(zoom);
  const data = useRef<uPlot.AlignedData>([[], [], []]);
  zoomed.current = zoom;
  data.current = [time, out, into];
  const look = `${unit}|${zone}|${document.documentElement.dataset.theme ?? ''}|${w.out}`;
  useEffect(() => {
    const at = box.current!, dark = matchMedia('(prefers-color-scheme: dark)');
    const make = () => { plot.current?.destroy(); plot.current = new uPlot(options(at.clientWidth, unit, (a, b) => zoomed.current?.(a, b), !!zoom), data.current, at); };
    make();
    dark.addEventListener('change', make);
    const resize = new ResizeObserver(() => plot.current?.setSize({ width: at.clientWidth, height: HEIGHT }));
    resize.observe(at);
    return () => { resize.disconnect(); dark.removeEventListener('change', make); plot.current?.destroy(); plot.current = undefined; };
  }, [look]);
  useEffect(() => { plot.current?.setData([time, out, into]); }, [time, out, into]);
  return <div ref={box} class="plot" role="img" aria-label={label} />;
}
