import { get } from '../api';
import type { Exporter, Freeze, Incident, Me, Page, TopRow, Traffic } from '../api';
import { num, stamp, whole } from '../format';
import { fill, named, w } from '../i18n';
import { aboutExporters, aboutFreezes, aboutIncidents, useLive } from '../live';
import { go, useQuery } from '../route';
import { Choice, Empty, Failed, Order, Section } from '../ui';
import { Series } from './host';
import { Exporters, Incidents, lossOf, SILENT, Top } from './lists';

const WINDOW = 300, SHOWN = 50, WHOLE = 1000;
const OVER: Record<string, number> = { '5m': WINDOW, '24h': 86_400, '720h': 2_592_000 };
const DOING = ['suspending', 'suspended', 'verified', 'unverified', 'releasing'];

export function Overview({ me }: { me: Me }) {
  const by = useQuery('by') || 'out_bytes';
  const inc = useLive(s => get<{ incidents: Incident[]; _metadata: Page }>('/incidents?state=live&limit=' + SHOWN, s), [], { about: aboutIncidents });
  const cut = useLive(s => get<{ _metadata: Page }>('/incidents?limit=1&state=' + DOING.join(','), s), [], { about: aboutIncidents });
  const back = useQuery('back') || '24h', over = OVER[useQuery('over')] ? useQuery('over') : '5m';
  const top = useLive(s => get<{ top: TopRow[] }>(`/top?window=${over}&limit=15&by=${by}`, s), [by, over], { every: over === '5m' ? 5000 : 300_000 });
  const traffic = useLive(s => get<Traffic>('/traffic?from=-' + (/^\d{1,4}h$/.test(back) ? back : '24h'), s), [back], { every: 60_000 });
  const all = useLive(s => get<{ top: TopRow[] }>(`/top?window=5m&limit=${WHOLE}&by=out_bytes`, s), [], { every: 15000 });
  const exp = useLive(s => get<{ exporters: Exporter[] }>('/exporters', s), [], { about: aboutExporters, every: 5000 });
  const frozen = useLive(s => get<{ freezes: Freeze[] }>('/freezes', s), [], { every: 10000, about: aboutFreezes });
  return <>
    <h1 class="vh" tabIndex={-1}>{w.overview}</h1>
    {frozen.data?.freezes.map(f => <Frozen key={f.rule ?? ''} f={f} me={me} done={frozen.refresh} />)}
    <Tiles all={all.data?.top} incidents={inc.data?._metadata.totalCount} cut={cut.data?._metadata.totalCount} exporters={exp.data?.exporters} />
    <Section title={w.fleetTraffic} busy={traffic.old} extra={<Choice label={w.range} value={back} set={v => go('/', { back: v })} of={[['6h', w.last6h], ['24h', w.lastDay], ['168h', w.lastWeek], ['720h', w.d30]]} />}>
      <Failed error={traffic.error} />
      {traffic.data ? <Series h={traffic.data} /> : <Empty>{traffic.error ? '' : w.loading}</Empty>}
    </Section>
    <Section title={w.openIncidents} extra={<a href="#/incidents">{w.allOfThem}</a>}>
      <Failed error={inc.error} />
      {inc.data ? <><Incidents list={inc.data.incidents} empty={w.noIncidents} />
        {inc.data._metadata.totalCount > SHOWN && <p class="note">{fill(w.more, SHOWN, whole(inc.data._metadata.totalCount))}</p>}</> : <Empty>{inc.error ? '' : w.loading}</Empty>}
    </Section>
    <Section title={w.topTalkers} busy={top.old} extra={<><Choice label={w.over} value={over} set={v => go('/', { over: v })} of={[['5m', w.mean5], ['24h', w.lastDay], ['720h', w.d30]]} /> <Choice label={w.by} value={by} set={v => go('/', { by: v })} of={[
      ['out_bytes', w.byOutBytes], ['out_packets', w.byOutPackets], ['in_bytes', w.byInBytes], ['in_packets', w.byInPackets], ['syn', w.bySYN]]} /></>}>
      <Failed error={top.error} />
      {top.data ? <Top list={top.data.top} windowS={OVER[over]} by={by} /> : <Empty>{top.error ? '' : w.loading}</Empty>}
    </Section>
    <Section title={w.exporters}>
      <Failed error={exp.error} />
      {exp.data ? <Exporters list={exp.data.exporters} /> : <Empty>{exp.error ? '' : w.loading}</Empty>}
    </Section>
  </>;
}

function Frozen({ f, me, done }: { f: Freeze; me: Me; done: () => void }) {
  return <section class="freeze" role="alert">
    <p>{fill(w.frozen, f.rule ? named(w.rules, f.rule) : w.frozenAll, stamp(f.since), f.tenants)}</p>
    <details><summary>{w.lift}…</summary><Order me={me} role="operator" label={w.lift} hint={w.liftHint} field="reason" path="/freezes/lift" done={done} /></details>
  </section>;
}

function Tiles({ all, incidents, cut, exporters }: { all?: TopRow[]; incidents?: number; cut?: number; exporters?: Exporter[] }) {
  const total = (k: 'est_out_bytes' | 'est_in_bytes') => all ? num(all.reduce((a, t) => a + t[k], 0) * 8 / WINDOW, w.bitsPerS) : '…';
  const alive = exporters?.filter(e => Date.now() - Date.parse(e.last_seen) < SILENT).length;
  const lost = exporters?.reduce((a, e) => a + e.lost, 0) ?? 0, records = exporters?.reduce((a, e) => a + e.records, 0) ?? 0;
  const of = all && all.length >= WHOLE ? fill(w.ofTop, whole(WHOLE)) : w.mean5;
  return <ul class="tiles">
    <Tile name={w.trafficOut} value={total('est_out_bytes')} note={of} />
    <Tile name={w.trafficIn} value={total('est_in_bytes')} note={of} />
    <Tile name={w.openIncidents} value={incidents === undefined ? '…' : whole(incidents)} href="#/incidents?state=live" tone={incidents ? 'warn' : 'ok'} />
    <Tile name={w.cutNow} value={cut === undefined ? '…' : whole(cut)} tone={cut ? 'cut' : 'ok'} note={w.tenants} href={'#/incidents?state=' + DOING.join(',')} />
    <Tile name={w.exportersLive} value={exporters ? fill(w.ofAll, alive!, exporters.length) : '…'} href="#/exporters" tone={alive === exporters?.length ? 'ok' : 'bad'} note={w.lastMinute} />
    <Tile name={w.lossNow} value={exporters ? lossOf(lost, records) : '…'} tone={lost ? 'bad' : 'ok'} href="#/exporters" note={fill(w.lostRecords, whole(lost))} />
  </ul>;
}

function Tile({ name, value, note, href, tone }: { name: string; value: string; note?: string; href?: string; tone?: string }) {
  const inside = <><span class="tile-name">{name}</span><span class={'tile-value ' + (tone ?? '')}>{value}</span><span class="tile-name">{note ?? ''}</span></>;
  return <li>{href ? <a class="tile" href={href}>{inside}</a> : <div class="tile">{inside}</div>}</li>;
}
