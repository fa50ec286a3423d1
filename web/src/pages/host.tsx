import { useMemo } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { get } from '../api';
import type { Host, Me } from '../api';
import { Chart } from '../chart';
import { num, who } from '../format';
import { w } from '../i18n';
import { aboutTenant, useLive } from '../live';
import { CopyLink, iso, RangePick, useRange } from '../range';
import { go, useQuery } from '../route';
import { Empty, Facts, Failed, Mail, Section, TenantLink } from '../ui';
import { Flows } from './flows';
import { Incidents } from './lists';
import { Peers } from './peers';
import { PolicyView } from './policy';
import { ScanPicture } from './scan';

const TABS = ['traffic', 'peers', 'flows', 'policy'] as const;

export function HostPage({ ip, me }: { ip: string; me: Me }) {
  const range = useRange();
  const tab = useQuery('tab') || 'traffic';
  const at = '/hosts/' + encodeURIComponent(ip);
  const host = useLive(s => get<Host>(`${at}?${range.query}`, s), [ip, range.query], { every: range.fixed ? 30_000 : 5000 });
  const incidents = useLive(s => get<{ incidents: Host['incidents'] }>(`/incidents?limit=20&tenant=${encodeURIComponent(ip)}`, s), [ip], { about: aboutTenant(host.data?.tenant ?? ip) });
  if (host.error && !host.data && host.error.status) return <><p><a href="#/">{w.back}</a></p><h1 tabIndex={-1}>{w.nothing}</h1><Failed error={host.error} /></>;
  const h = host.data;
  const link = (t: string) => { const q = new URLSearchParams(location.hash.split('?')[1]); q.set('tab', t); return `#${at}?${q}`; };
  return <>
    <div class="title"><h1 tabIndex={-1} class="mono">{ip}</h1><CopyLink range={range} /></div>
    {h && <Facts of={[[w.holder, h.holder?.tenant ? <TenantLink customer={h.holder.tenant}>{who(h.holder)}</TenantLink> : who(h.holder)], [w.doubt, h.holder?.doubt_why || h.holder?.doubt], [w.contact, h.holder?.contact && <Mail to={h.holder.contact} />], [w.hypervisor, h.holder?.hypervisor], [w.storedUnder, h.tenant !== ip ? h.tenant : ''], [w.tags, h.holder?.tags?.join(', ')]]} />}
    <nav class="tabs" aria-label={w.views}>{TABS.map(t => <a key={t} href={link(t)} aria-current={t === tab ? 'true' : undefined}>{w.tabs[t]}</a>)}</nav>
    {tab !== 'policy' && <div class="tools"><RangePick range={range} path={at} /></div>}
    {tab === 'traffic' && <Traffic h={h} old={host.old} at={at}>
      <ScanPicture ip={ip} from={range.from} to={range.to} />
      <Section title={w.incidents} extra={<a href={'#/incidents?state=all&tenant=' + encodeURIComponent(ip)}>{w.allOfThem}</a>}>
        {incidents.data ? <Incidents list={incidents.data.incidents} empty={w.noIncidentsHost} /> : <Empty>{w.loading}</Empty>}
      </Section>
    </Traffic>}
    {tab === 'peers' && <Peers ip={ip} range={range} />}
    {tab === 'flows' && <Flows ip={ip} range={range} />}
    {tab === 'policy' && <PolicyView ip={ip} me={me} />}
  </>;
}

function Traffic({ h, old, at, children }: { h?: Host; old?: boolean; at: string; children: ComponentChildren }) {
  return <>
    <Section title={w.traffic} busy={old}>{h ? <Series h={h} zoom={(from, to) => go(at, { back: '', from: iso(from), to: iso(to) })} /> : <Empty>{w.loading}</Empty>}</Section>
    {children}
  </>;
}

export function Series({ h, zoom }: { h: Pick<Host, 'from' | 'to' | 'step_s' | 'series'>; zoom?: (from: number, to: number) => void }) {
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
  return <>
    <div class="charts">
      <Plotted title={w.bits} unit={w.bitsPerS} time={s.time} out={s.outBits} into={s.inBits} zoom={zoom} />
      <Plotted title={w.packets} unit={w.packetsPerS} time={s.time} out={s.outPackets} into={s.inPackets} zoom={zoom} />
    </div>
    {zoom && <p class="note">{w.zoomHint}</p>}
  </>;
}

function Plotted({ title, unit, time, out, into, zoom }: { title: string; unit: string; time: number[]; out: number[]; into: number[]; zoom?: (from: number, to: number) => void }) {
  const peak = (a: number[]) => num(a.reduce((x, y) => Math.max(x, y), 0), unit), mean = (a: number[]) => num(a.reduce((x, y) => x + y, 0) / a.length, unit);
  return <figure>
    <figcaption><strong>{title}</strong>
      <span class="key">{w.out}: {w.peak} {peak(out)}, {w.mean} {mean(out)}</span>
      <span class="key in">{w.in}: {w.peak} {peak(into)}, {w.mean} {mean(into)}</span>
    </figcaption>
    <Chart time={time} out={out} into={into} unit={unit} zoom={zoom} label={`${title}: ${w.out} ${w.peak} ${peak(out)}, ${w.in} ${w.peak} ${peak(into)}`} />
  </figure>;
}
