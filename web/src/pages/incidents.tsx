import { get } from '../api';
import type { Incident, Page } from '../api';
import { whole } from '../format';
import { fill, named, w } from '../i18n';
import { aboutIncidents, useLive } from '../live';
import { CopyLink } from '../range';
import { go, useRoute } from '../route';
import { Choice, Empty, Failed, Section } from '../ui';
import { Incidents } from './lists';

const LIMIT = 50;

export function IncidentList() {
  const { query } = useRoute();
  const state = query.get('state') ?? 'live', rule = query.get('rule') ?? '', tenant = query.get('tenant') ?? '', since = query.get('since') ?? '', offset = Number(query.get('offset') ?? 0);
  const q = new URLSearchParams({ limit: String(LIMIT), offset: String(offset) });
  if (state !== 'all') q.set('state', state);
  if (rule) q.set('rule', rule);
  if (tenant) q.set('tenant', tenant);
  if (since) q.set('since', '-' + since);
  const list = useLive(s => get<{ incidents: Incident[]; _metadata: Page }>('/incidents?' + q, s), [q.toString()], { about: aboutIncidents });
  const total = list.data?._metadata.totalCount ?? 0;
  const states: [string, string][] = [['live', w.live], ['all', w.all], ...Object.entries(w.states)];
  if (!states.some(([k]) => k === state)) states.push([state, state.split(',').map(x => named(w.states, x)).join(', ')]);
  return <>
    <div class="title"><h1 tabIndex={-1}>{w.incidents}</h1><CopyLink /></div>
    <Section title={list.data ? fill(w.found, whole(total)) : w.incidents} busy={list.old} extra={<>
      <Choice label={w.state} value={state} of={states} set={v => go('/incidents', { state: v, offset: '' })} />
      <Choice label={w.what} value={rule} of={[['', w.all], ...Object.entries(w.rules)]} set={v => go('/incidents', { rule: v, offset: '' })} />
      <Choice label={w.opened} value={since} of={[['', w.anyTime], ['24h', w.lastDay], ['168h', w.lastWeek], ['720h', w.days30]]} set={v => go('/incidents', { since: v, offset: '' })} />
      {tenant && <button type="button" class="chip" onClick={() => go('/incidents', { tenant: '', offset: '' })} aria-label={fill(w.without, tenant)}>{tenant} ×</button>}
    </>}>
      <Failed error={list.error} />
      {list.data ? <Incidents list={list.data.incidents} empty={w.noIncidentsMatch} /> : <Empty>{list.error ? '' : w.loading}</Empty>}
      {offset > 0 && <p><button type="button" onClick={() => go('/incidents', { offset: String(Math.max(0, offset - LIMIT) || '') })}>{w.newer}</button></p>}
      {total > offset + LIMIT && <p><button type="button" onClick={() => go('/incidents', { offset: String(offset + LIMIT) })}>{w.next}</button> <span class="note">{fill(w.more, Math.min(total, offset + LIMIT), whole(total))}</span></p>}
    </Section>
  </>;
}
