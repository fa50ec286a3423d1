import { useMemo } from 'preact/hooks';
import { get } from '../api';
import type { Flow, Host } from '../api';
import { Chart } from '../chart';
import { num, proto, stamp, who, whole } from '../format';
import { w } from '../i18n';
import { useLive } from '../live';
import { go, useQuery } from '../route';
import { Choice, Empty, Facts, Failed, Section, Table } from '../ui';
import { Incidents } from './lists';
import { ScanPicture } from './scan';

const MINUTE = 60_000;

export function HostPage({ ip }: { ip: string }) {
  const back = useQuery('back') || '1h';
  const at = '/hosts/' + encodeURIComponent(ip);
  const host = useLive(s => get<Host>(`${at}?from=-${back}`, s), [ip, back], 5000);
  const flows = useLive(s => get<{ flows: Flow[] }>(`${at}/flows?limit=200&from=-${back}`, s), [ip, back], 15000);
  const minute = Math.floor(Date.now() / MINUTE);
  const shown = useMemo(() => ({ from: (minute - 15) * MINUTE, to: (minute + 1) * MINUTE }), [minute, ip]);
  const pick = <Choice label={w.range} value={back} set={v => go('/hosts/' + encodeURIComponent(ip), { back: v })} of={[['1h', w.lastHour], ['6h', w.last6h], ['24h', w.lastDay], ['168h', w.lastWeek]]} />;
  if (host.error && !host.data && host.error.status) return <><p><a href="#/">{w.back}</a></p><h1 tabIndex={-1}>{w.nothing}</h1><Failed error={host.error} /></>;
  const h = host.data;
  return <>
    <p><a href="#/">{w.back}</a></p>
    <h1 tabIndex={-1} class="mono">{ip}</h1>
    {h && <Facts of={[[w.holder, who(h.holder)], [w.contact, h.holder?.contact], [w.hypervisor, h.holder?.hypervisor], [w.tenant, h.tenant !== ip ? h.tenant : ''], ['', h.holder?.tags?.join(', ')]]} />}
    {h && h.incidents.length > 0 && <Section title={w.openIncidents}><Incidents list={h.incidents} empty={w.noIncidents} /></Section>}
    <Section title={w.traffic} extra={pick}>{h ? <Series h={h} /> : <Empty>{w.loading}</Empty>}</Section>
    <ScanPicture ip={ip} from={shown.from} to={shown.to} />
    <Section title={w.flows}>
      <Failed error={flows.error} />
      {flows.data ? <Table caption={w.flows} rows={flows.data.flows.slice().reverse()} empty={w.noFlows} keyOf={(f, i) => f.time + f.remote + f.remote_port + i} columns={[
        { head: w.time, cell: f => stamp(f.time) }, { head: w.dir, cell: f => f.dir === 'out' ? w.out : w.in }, { head: w.proto, cell: f => proto(f.ip_proto) },
        { head: w.remote, cell: f => <span class="mono">{f.remote}</span> }, { head: w.port, right: true, cell: f => f.svc_port || '–' }, { head: w.what, cell: f => f.class },
        { head: w.packets, right: true, cell: f => whole(f.packets * f.sampling_rate) }, { head: w.bytes, right: true, cell: f => num(f.bytes * f.sampling_rate, 'B') },
      ]} /> : <Empty>{w.loading}</Empty>}
    </Section>
  </>;
}

function Series({ h }: { h: Host }) {
  const s = useMemo(() => {
    const step = h.step_s * 1000, first = Math.floor(Date.parse(h.from) / step) * step, n = Math.max(1, Math.ceil((Date.parse(h.to) - first) / step));
    const time = Array.from({ length: n }, (_, i) => (first + i * step) / 1000);
    const line = () => new Array<number>(n).fill(0);
    const v = { outBits: line(), inBits: line(), outPackets: line(), inPackets: line() };
    for (const p of h.series) {
      const i = Math.floor((Date.parse(p.time) - first) / step);
      if (i < 0 || i >= n) continue;
      v.outBits[i] += p.est_out_bytes * 8 / h.step_s;
      v.inBits[i] += p.est_in_bytes * 8 / h.step_s;
      v.outPackets[i] += p.est_out_packets / h.step_s;
      v.inPackets[i] += p.est_in_packets / h.step_s;
    }
    return { time, ...v };
  }, [h]);
  if (!h.series.length) return <Empty>{w.noSeries}</Empty>;
  const peak = (a: number[], unit: string) => num(Math.max(0, ...a), unit);
  return <>
    <Chart time={s.time} out={s.outBits} into={s.inBits} unit={w.bitsPerS} label={`${w.traffic}: ${w.out} ${peak(s.outBits, w.bitsPerS)}, ${w.in} ${peak(s.inBits, w.bitsPerS)}`} />
    <Chart time={s.time} out={s.outPackets} into={s.inPackets} unit={w.packetsPerS} label={`${w.packets}: ${w.out} ${peak(s.outPackets, w.packetsPerS)}, ${w.in} ${peak(s.inPackets, w.packetsPerS)}`} />
  </>;
}
