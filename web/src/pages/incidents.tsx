import { get } from '../api';
import type { Incident, Page } from '../api';
import { whole } from '../format';
import { fill, w } from '../i18n';
import { useLive } from '../live';
import { go, useRoute } from '../route';
import { Choice, Empty, Failed, Section } from '../ui';
import { Incidents } from './lists';

const LIMIT = 50;

export function IncidentList() {
  const { query } = useRoute();
  const state = query.get('state') ?? 'live', rule = query.get('rule') ?? '', tenant = query.get('tenant') ?? '', offset = Number(query.get('offset') ?? 0);
  const q = new URLSearchParams({ limit: String(LIMIT), offset: String(offset) });
  if (state !== 'all') q.set('state', state);
  if (rule) q.set('rule', rule);
  if (tenant) q.set('tenant', tenant);
  const list = useLive(s => get<{ incidents: Incident[]; _metadata: Page }>('/incidents?' + q, s), [q.toString()]);
  const total = list.data?._metadata.totalCount ?? 0;
  const states: [string, string][] = [['live', w.live], ['all', w.all], ...Object.entries(w.states)];
  return <>
    <h1 tabIndex={-1}>{w.incidents}</h1>
    <Section title={list.data ? whole(total) : w.loading} extra={<>
      <Choice label={w.state} value={state} of={states} set={v => go('/incidents', { state: v, offset: '' })} />
      <Choice label={w.what} value={rule} of={[['', w.all], ...Object.entries(w.rules)]} set={v => go('/incidents', { rule: v, offset: '' })} />
    </>}>
      <Failed error={list.error} />
      {list.data ? <Incidents list={list.data.incidents} empty={w.noIncidentsMatch} /> : <Empty>{w.loading}</Empty>}
      {total > offset + LIMIT && <p><button type="button" onClick={() => go('/incidents', { offset: String(offset + LIMIT) })}>{w.next}</button> <span class="note">{fill(w.more, Math.min(total, offset + LIMIT), whole(total))}</span></p>}
    </Section>
  </>;
}
