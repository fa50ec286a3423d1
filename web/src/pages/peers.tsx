import { get } from '../api';
import type { Peers as Sums, PeerSum } from '../api';
import { num, proto, whole } from '../format';
import { fill, w } from '../i18n';
import { useLive } from '../live';
import { iso } from '../range';
import type { Range } from '../range';
import { Empty, Failed, Section, Table } from '../ui';

const TOP = 25;
const portName = (t: PeerSum) => proto(t.ip_proto ?? 0) + (t.svc_port ? '/' + t.svc_port : '');

// Peers are the stored records summed by the other side and by service port.
export function Peers({ ip, range }: { ip: string; range: Range }) {
  const at = '/hosts/' + encodeURIComponent(ip);
  const got = useLive(s => get<Sums>(`${at}/peers?limit=${TOP}&from=${iso(range.from)}&to=${iso(range.to)}`, s), [ip, range.from, range.to], { every: 0 });
  const p = got.data;
  if (!p) return <Section title={w.tabs.peers}><Failed error={got.error} /><Empty>{got.error ? '' : w.loading}</Empty></Section>;
  const link = (k: string, v: string) => { const q = new URLSearchParams(location.hash.split('?')[1]); q.set('tab', 'flows'); q.set(k, v); return `#${at}?${q}`; };
  const numbers = [
    { head: w.out, right: true, cell: (t: PeerSum) => num(t.est_out_bytes, w.byte) }, { head: w.in, right: true, cell: (t: PeerSum) => num(t.est_in_bytes, w.byte) },
    { head: w.estPackets, right: true, cell: (t: PeerSum) => whole(t.est_out_packets + t.est_in_packets) }, { head: w.notEstablished, right: true, cell: (t: PeerSum) => whole(t.not_established) },
  ];
  return <>
    <div class="pair">
      <Section title={fill(w.portsOf, whole(p.total_ports))} busy={got.old}><Table caption={w.ports} rows={p.ports} empty={w.noFlows} keyOf={portName} columns={[
        { head: w.port, cell: t => <a class="mono" href={link('port', String(t.svc_port ?? 0))}>{portName(t)}</a> }, { head: w.addresses, right: true, cell: t => whole(t.remotes ?? 0) }, ...numbers]} /></Section>
      <Section title={fill(w.peersOf, whole(p.total_peers))} busy={got.old}><Table caption={w.tabs.peers} rows={p.peers} empty={w.noFlows} keyOf={t => t.remote ?? ''} columns={[
        { head: w.remote, cell: t => <a class="mono" href={link('remote', t.remote ?? '')}>{t.remote}</a> }, ...numbers]} /></Section>
    </div>
    <p class="note">{w.scaled}{(p.total_peers > TOP || p.total_ports > TOP) && ' ' + fill(w.largestOnly, whole(TOP))}</p>
  </>;
}
