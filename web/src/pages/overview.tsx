import { get } from '../api';
import type { Exporter, Freeze, Incident, Me, Page, TopRow } from '../api';
import { num, stamp, whole } from '../format';
import { fill, named, w } from '../i18n';
import { useLive } from '../live';
import { go, useQuery } from '../route';
import { Choice, Empty, Failed, Order, Section } from '../ui';
import { Exporters, Incidents, Top } from './lists';

const WINDOW = 300;
const DOING = ['suspending', 'suspended', 'verified', 'unverified', 'releasing'];

export function Overview({ me }: { me: Me }) {
  const by = useQuery('by') || 'out_bytes';
  const inc = useLive(s => get<{ incidents: Incident[]; _metadata: Page }>('/incidents?state=live&limit=100', s), []);
  const cut = useLive(s => get<{ _metadata: Page }>('/incidents?limit=1&state=' + DOING.join(','), s), []);
  const top = useLive(s => get<{ top: TopRow[] }>(`/top?window=5m&limit=15&by=${by}`, s), [by]);
  const all = useLive(s => get<{ top: TopRow[] }>('/top?window=5m&limit=1000&by=out_bytes', s), [], 15000);
  const exp = useLive(s => get<{ exporters: Exporter[] }>('/exporters', s), []);
  const frozen = useLive(s => get<{ freezes: Freeze[] }>('/freezes', s), [], 10000);
  const total = (k: 'est_out_bytes' | 'est_in_bytes') => all.data ? num(all.data.top.reduce((a, t) => a + t[k], 0) * 8 / WINDOW, w.bitsPerS) : '…';
  const alive = exp.data?.exporters.filter(e => Date.now() - Date.parse(e.last_seen) < 60_000).length;
  const lost = exp.data?.exporters.reduce((a, e) => a + e.lost, 0);
  return <>
    <h1 class="vh" tabIndex={-1}>{w.overview}</h1>
    {frozen.data?.freezes.map(f => <section class="freeze" key={f.rule ?? ''} role="alert">
      <p>{fill(w.frozen, f.rule ? named(w.rules, f.rule) : w.frozenAll, stamp(f.since), f.tenants)}</p>
      <Order me={me} role="operator" label={w.lift} hint={w.liftHint} field="reason" path="/freezes/lift" done={() => { frozen.refresh(); }} />
    </section>)}
    <ul class="tiles">
      <Tile name={w.trafficOut} value={total('est_out_bytes')} />
      <Tile name={w.trafficIn} value={total('est_in_bytes')} />
      <Tile name={w.openIncidents} value={inc.data ? whole(inc.data._metadata.totalCount) : '…'} href="#/incidents?state=live" tone={inc.data?._metadata.totalCount ? 'warn' : 'ok'} />
      <Tile name={w.cutNow} value={cut.data ? whole(cut.data._metadata.totalCount) : '…'} tone={cut.data?._metadata.totalCount ? 'cut' : 'ok'} />
      <Tile name={w.exportersLive} value={exp.data ? `${alive} / ${exp.data.exporters.length}` : '…'} href="#/exporters" tone={alive === exp.data?.exporters.length ? 'ok' : 'bad'} />
      <Tile name={w.lossNow} value={lost === undefined ? '…' : whole(lost)} tone={lost ? 'bad' : 'ok'} href="#/exporters" />
    </ul>
    <Section title={w.openIncidents}>
      <Failed error={inc.error} />
      {inc.data ? <><Incidents list={inc.data.incidents} empty={w.noIncidents} />
        {inc.data._metadata.totalCount > 100 && <p class="note">{fill(w.more, 100, whole(inc.data._metadata.totalCount))}</p>}</> : <Empty>{w.loading}</Empty>}
    </Section>
    <Section title={w.topTalkers} extra={<Choice label={w.by} value={by} set={v => go('/', { by: v })} of={[
      ['out_bytes', w.byOutBytes], ['out_packets', w.byOutPackets], ['in_bytes', w.byInBytes], ['in_packets', w.byInPackets], ['syn', w.bySYN]]} />}>
      <Failed error={top.error} />
      {top.data ? <Top list={top.data.top} windowS={WINDOW} /> : <Empty>{w.loading}</Empty>}
    </Section>
    <Section title={w.exporters}>
      <Failed error={exp.error} />
      {exp.data ? <Exporters list={exp.data.exporters} /> : <Empty>{w.loading}</Empty>}
    </Section>
  </>;
}

function Tile({ name, value, href, tone }: { name: string; value: string; href?: string; tone?: string }) {
  const inside = <><span class="tile-name">{name}</span><span class={'tile-value ' + (tone ?? '')}>{value}</span></>;
  return <li>{href ? <a class="tile" href={href}>{inside}</a> : <div class="tile">{inside}</div>}</li>;
}
