import { useMemo } from 'preact/hooks';
import { get } from '../api';
import type { Flow } from '../api';
import { Dots } from '../chart';
import type { Dot } from '../chart';
import { whole } from '../format';
import { fill, w } from '../i18n';
import { useLive } from '../live';
import { Empty, Failed, Section } from '../ui';

const LIMIT = 10000;
const iso = (ms: number) => new Date(ms).toISOString();

// ScanPicture draws what the tenant tried: outgoing attempts by time and address.
export function ScanPicture({ ip, from, to }: { ip: string; from: number; to: number }) {
  const path = `/hosts/${encodeURIComponent(ip)}/flows?dir=out&limit=${LIMIT}&from=${iso(from)}&to=${iso(to)}`;
  const got = useLive(s => get<{ flows: Flow[] }>(path, s), [path], 0);
  const dots = useMemo<Dot[]>(() => (got.data?.flows ?? []).filter(f => f.role === 'client')
    .map(f => ({ t: Date.parse(f.time), remote: f.remote, port: f.svc_port, answered: f.class === 'est' })), [got.data]);
  const tried = dots.filter(d => !d.answered);
  return <Section title={w.scanPicture} extra={dots.length > 0 && <span class="note">{fill(w.targets, whole(new Set(tried.map(d => d.remote)).size), whole(tried.length))}</span>}>
    <Failed error={got.error} />
    {!got.data ? <Empty>{got.error ? '' : w.loading}</Empty> : dots.length ? <><Dots dots={dots} from={from} to={to} /><p class="note">{w.scanText}</p></> : <Empty>{w.noDots}</Empty>}
  </Section>;
}
