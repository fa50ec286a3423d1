import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { get } from '../api';
import type { Flow } from '../api';
import { color } from '../chart';
import { lay, paint, portName, sum } from '../dots';
import type { Dot, Marker, Plot, Sum } from '../dots';
import { stamp, whole, zone } from '../format';
import { fill, w } from '../i18n';
import { useLive } from '../live';
import { iso } from '../range';
import { Choice, Empty, Failed, Section } from '../ui';

const LIMIT = 10000, LEGEND = 3;

// ScanPicture draws what the tenant tried: outgoing attempts by time and address.
export function ScanPicture({ ip, from, to, markers = [], tools }: { ip: string; from: number; to: number; markers?: Marker[]; tools?: preact.ComponentChildren }) {
  const path = `/hosts/${encodeURIComponent(ip)}/flows?dir=out&limit=${LIMIT}&from=${iso(from)}&to=${iso(to)}`;
  const got = useLive(s => get<{ flows: Flow[]; truncated?: boolean }>(path, s), [path], { every: 0 });
  const dots = useMemo<Dot[]>(() => (got.data?.flows ?? []).filter(f => f.role === 'client')
    .map(f => ({ t: Date.parse(f.time), remote: f.remote, port: f.svc_port, proto: f.ip_proto, answered: f.class === 'est' })), [got.data]);
  const s = useMemo(() => sum(dots), [dots]);
  const [up, setUp] = useState('');
  const upward = up || (s.pattern === 'ports' ? 'port' : 'remote');
  return <Section title={w.scanPicture} extra={<>{tools}<Choice label={w.upward} value={upward} set={setUp} of={[['remote', w.upRemote], ['port', w.upPort]]} /></>}>
    <Failed error={got.error} />
    {!got.data ? <Empty>{got.error ? '' : w.loading}</Empty> : !dots.length ? <Empty>{w.noDots}</Empty> : <>
      <p class={'verdict ' + s.pattern}><strong>{w.patterns[s.pattern]}</strong> {told(s)}{got.data.truncated && ' ' + fill(w.newestOnly, whole(LIMIT))}</p>
      <Dots dots={dots} s={s} from={from} to={to} upward={upward as 'remote' | 'port'} markers={markers} />
      <Legend s={s} />
      <p class="note">{w.scanText}</p>
    </>}
  </Section>;
}

const told = (s: Sum) => fill(w.patternText, whole(s.remotes), s.portCount > LEGEND ? fill(w.manyPorts, whole(s.portCount)) : s.ports.map(p => p[0]).join(', ') || '–',
  s.seconds < 120 ? Math.round(s.seconds) + ' ' + w.ages.s : Math.round(s.seconds / 60) + ' ' + w.ages.min, Math.round(100 * s.answered / Math.max(1, s.answered + s.tried.length)));

function Legend({ s }: { s: Sum }) {
  const rest = s.ports.slice(LEGEND).reduce((n, p) => n + p[1], 0);
  return <ul class="legend">
    {s.ports.slice(0, LEGEND).map(([name, n], i) => <li key={name}><i class={'dot p' + i} />{name} <span class="note">{whole(n)}</span></li>)}
    {rest > 0 && <li><i class="dot p3" />{w.otherPorts} <span class="note">{whole(rest)}</span></li>}
    {s.answered > 0 && <li><i class="dot answered" />{w.answered} <span class="note">{whole(s.answered)}</span></li>}
  </ul>;
}

// closer keeps the picture on what there is: dots of a minute in an hour would
// be one line.
function closer(dots: Dot[], markers: Marker[], from: number, to: number): [number, number] {
  let a = Infinity, b = -Infinity;
  for (const t of [...dots.map(d => d.t), ...markers.filter(m => m.t >= from && m.t <= to).map(m => m.t)]) { a = Math.min(a, t); b = Math.max(b, t); }
  const edge = Math.max(2000, (b - a) * 0.03);
  return b - a + 2 * edge < (to - from) / 2 ? [a - edge, b + edge] : [from, to];
}

function times(from: number, to: number): [number, string][] {
  const n = 5, days = to - from > 864e5, part = to - from < 6e5 ? 19 : 16;
  return Array.from({ length: n }, (_, i) => from + (to - from) * i / (n - 1)).map(t => [t, stamp(t).slice(days ? 5 : 11, part)]);
}

function Dots({ dots, s, from, to, upward, markers }: { dots: Dot[]; s: Sum; from: number; to: number; upward: 'remote' | 'port'; markers: Marker[] }) {
  const canvas = useRef<HTMLCanvasElement>(null), plot = useRef<Plot>();
  const [at, setAt] = useState<{ x: number; y: number; d: Dot }>();
  const theme = document.documentElement.dataset.theme ?? '';
  useEffect(() => {
    const c = canvas.current!, [a, b] = closer(dots, markers, from, to);
    const draw = () => {
      const ratio = window.devicePixelRatio || 1, width = c.clientWidth, height = c.clientHeight;
      c.width = width * ratio;
      c.height = height * ratio;
      const g = c.getContext('2d')!;
      g.scale(ratio, ratio);
      plot.current = lay(dots, upward, a, b, width, height);
      const look = { ink: color('--ink'), dim: color('--dim'), rule: color('--rule'), ports: ['--p0', '--p1', '--p2', '--p3'].map(color), answered: color('--in'), mark: color('--cut') };
      paint(g, plot.current, dots, s.ports.slice(0, LEGEND).map(p => p[0]), look, markers, width < 560 ? times(a, b).filter((_, i) => i % 2 === 0) : times(a, b), w.freshAxis);
    };
    draw();
    const resize = new ResizeObserver(draw);
    resize.observe(c);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', draw);
    return () => { resize.disconnect(); dark.removeEventListener('change', draw); };
  }, [dots, from, to, upward, theme, zone, markers.map(m => m.t).join()]);
  const point = (e: MouseEvent) => {
    const p = plot.current;
    if (!p) return;
    let best: Dot | undefined, near = 100;
    for (const d of dots) { const q = (p.x(d.t) - e.offsetX) ** 2 + (p.y(d) - e.offsetY) ** 2; if (q < near) { near = q; best = d; } }
    setAt(best && { x: Math.min(p.x(best.t), p.width - 260), y: p.y(best), d: best });
  };
  const label = `${w.scanPicture}: ${w.patterns[s.pattern]} ${told(s)}`;
  return <div class="dots-box">
    <canvas ref={canvas} class="dots" role="img" aria-label={label} onMouseMove={point} onMouseLeave={() => setAt(undefined)} />
    {at && <div class="tip mono" ref={e => { if (e) { e.style.left = at.x + 8 + 'px'; e.style.top = at.y + 8 + 'px'; } }}>{stamp(at.d.t)} {at.d.remote} {portName(at.d)}{at.d.answered && ' ' + w.answered}</div>}
  </div>;
}
