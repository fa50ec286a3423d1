import { useMemo } from 'preact/hooks';
import { get } from '../api';
import type { Flow } from '../api';
import { num, proto, whole } from '../format';
import { fill, w } from '../i18n';
import { useLive } from '../live';
import { iso } from '../range';
import type { Range } from '../range';
import { Empty, Failed, Section, Table } from '../ui';

const LIMIT = 10000, TOP = 25;

interface Total { name: string; out: number; in: number; packets: number; remotes: Set<string>; tried: number }

// Peers sums the stored records by the other side and by service port.
export function Peers({ ip, range }: { ip: string; range: Range }) {
  const at = '/hosts/' + encodeURIComponent(ip);
  const got = useLive(s => get<{ flows: Flow[]; truncated?: boolean }>(`${at}/flows?limit=${LIMIT}&from=${iso(range.from)}&to=${iso(range.to)}`, s), [ip, range.from, range.to], { every: 0 });
  const flows = got.data?.flows;
  const ports = useMemo(() => totals(flows ?? [], f => proto(f.ip_proto) + (f.svc_port ? '/' + f.svc_port : '')), [flows]);
  const peers = useMemo(() => totals(flows ?? [], f => f.remote), [flows]);
  if (!flows) return <Section title={w.tabs.peers}><Failed error={got.error} /><Empty>{got.error ? '' : w.loading}</Empty></Section>;
  const link = (k: string, v: string) => { const q = new URLSearchParams(location.hash.split('?')[1]); q.set('tab', 'flows'); q.set(k, v); return `#${at}?${q}`; };
  const numbers = [
    { head: w.out, right: true, cell: (t: Total) => num(t.out, 'B') }, { head: w.in, right: true, cell: (t: Total) => num(t.in, 'B') },
    { head: w.estPackets, right: true, cell: (t: Total) => whole(t.packets) }, { head: w.unanswered, right: true, cell: (t: Total) => whole(t.tried) },
  ];
  return <>
    {got.data?.truncated && <p class="warn-text">{fill(w.newestOnly, whole(LIMIT))}</p>}
    <div class="pair">
      <Section title={w.ports} busy={got.old}><Table caption={w.ports} rows={ports.slice(0, TOP)} empty={w.noFlows} keyOf={t => t.name} columns={[
        { head: w.port, cell: t => <a class="mono" href={link('port', t.name.split('/')[1] ?? '')}>{t.name}</a> }, { head: w.addresses, right: true, cell: t => whole(t.remotes.size) }, ...numbers]} /></Section>
      <Section title={fill(w.peersOf, whole(peers.length))} busy={got.old}><Table caption={w.tabs.peers} rows={peers.slice(0, TOP)} empty={w.noFlows} keyOf={t => t.name} columns={[
        { head: w.remote, cell: t => <a class="mono" href={link('remote', t.name)}>{t.name}</a> }, ...numbers]} /></Section>
    </div>
    <p class="note">{w.scaled}</p>
  </>;
}

function totals(flows: Flow[], key: (f: Flow) => string): Total[] {
  const all = new Map<string, Total>();
  for (const f of flows) {
    const name = key(f);
    let t = all.get(name);
    if (!t) all.set(name, t = { name, out: 0, in: 0, packets: 0, remotes: new Set(), tried: 0 });
    t[f.dir === 'out' ? 'out' : 'in'] += f.bytes * f.sampling_rate;
    t.packets += f.packets * f.sampling_rate;
    t.remotes.add(f.remote);
    if (f.dir === 'out' && f.role === 'client' && f.class !== 'est') t.tried++;
  }
  return [...all.values()].sort((a, b) => b.packets - a.packets || b.tried - a.tried);
}
