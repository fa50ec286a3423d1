import { get } from '../api';
import type { ComplaintCase, Me, Page } from '../api';
import { ago, stamp, whole } from '../format';
import { fill, named, w } from '../i18n';
import { useLive } from '../live';
import { go, useRoute } from '../route';
import { Badge, Choice, Empty, Facts, Failed, HostLink, IncidentLink, may, Order, Section, Table, TenantLink } from '../ui';
import { Draft } from './answer';

const LIMIT = 50, STATES = ['open', 'answered', 'closed'];

// CaseList are the complaints that were kept as cases; a server without them
// shows nothing.
export function CaseList({ news }: { news: number }) {
  const { query } = useRoute();
  const status = query.get('status') ?? 'open', offset = Number(query.get('offset')) || 0;
  const got = useLive(s => get<{ complaints: ComplaintCase[]; _metadata: Page }>(`/complaints?status=${status}&limit=${LIMIT}&offset=${offset}`, s), [status, offset, news], { every: 15_000 });
  if (got.error && (got.error.status === 404 || got.error.status === 405)) return null;
  const total = got.data?._metadata.totalCount ?? 0;
  return <Section title={w.caseList} busy={got.old} extra={<Choice label={w.state} value={status} set={v => go('/complaints', { status: v, offset: '' })} of={[...STATES, 'all'].map(s => [s, w.caseStates[s]])} />}>
    <Failed error={got.error} />
    {got.data ? <CaseTable list={got.data.complaints} empty={w.noCaseList} /> : <Empty>{got.error ? '' : w.loading}</Empty>}
    {total > offset + LIMIT && <p><button type="button" onClick={() => go('/complaints', { offset: String(offset + LIMIT) })}>{w.next}</button> <span class="note">{fill(w.more, Math.min(total, offset + LIMIT), whole(total))}</span></p>}
  </Section>;
}

export function CaseTable({ list, empty }: { list: ComplaintCase[]; empty: string }) {
  return <Table caption={w.caseList} rows={list} empty={empty} keyOf={c => c.id} columns={[
    { head: w.case, cell: c => <a href={'#/complaints/' + encodeURIComponent(c.id)}>{c.subject || c.id}</a> },
    { head: w.state, cell: c => <Badge of={'case_' + c.status} words={{ ['case_' + c.status]: named(w.caseStates, c.status) }} /> },
    { head: w.reporter, cell: c => c.reporter ?? '–' },
    { head: w.address, cell: c => <HostLink ip={c.host} /> },
    { head: w.tenant, cell: c => <span class="raw">{[c.customer, c.vds].filter(Boolean).join(' · ') || '–'}</span> },
    { head: w.verdict, cell: c => <Verdicts of={c.verdicts} /> },
    { head: w.mails, right: true, cell: c => whole(c.mails) },
    { head: w.changed, cell: c => <span title={stamp(c.updated)}>{ago(c.updated)}</span> },
  ]} />;
}

export function CasePage({ id, me }: { id: string; me: Me }) {
  const path = '/complaints/' + encodeURIComponent(id);
  const got = useLive(s => get<ComplaintCase>(path, s), [id], { every: 15_000 });
  const c = got.data;
  if (!c) return got.error?.status ? <><p><a href="#/complaints">← {w.complaints}</a></p><h1 tabIndex={-1}>{w.nothing}</h1><Failed error={got.error} /></> : <Empty>{w.loading}</Empty>;
  return <>
    <p><a href="#/complaints">← {w.complaints}</a></p>
    <h1 tabIndex={-1}>{c.subject || c.id} <Badge of={'case_' + c.status} words={{ ['case_' + c.status]: named(w.caseStates, c.status) }} /></h1>
    <Facts of={[[w.reporter, c.reporter], [w.address, <HostLink ip={c.host} />], [w.tenant, c.customer && <TenantLink customer={c.customer}>{[c.customer, c.vds].filter(Boolean).join(' · ')}</TenantLink>], [w.incident, c.incident && <IncidentLink id={c.incident} />],
      [w.opened, `${stamp(c.opened)} (${ago(c.opened)})`], [w.mails, whole(c.mails)], [w.actor, c.by], [w.id, <span class="mono">{c.id}</span>],
      [w.verdict, <Verdicts of={c.verdicts} />]]} />
    {may(me, 'abuse') && <Section title={w.whatToDo}><div class="orders">{STATES.filter(s => s !== c.status).map(s => <Order key={s} me={me} role="abuse" label={w.caseActs[s]} hint={w.caseNote} field="note" path={path + '/status'} more={() => ({ status: s })} done={() => got.refresh()} />)}</div></Section>}
    <Draft of={c.reply} />
    <Section title={w.mailsTitle}>
      <Table caption={w.mailsTitle} rows={c.received ?? []} empty={w.none} keyOf={(_, i) => i} columns={[
        { head: w.time, cell: m => <span class="when">{stamp(m.time)}</span> }, { head: w.reporter, cell: m => m.reporter ?? '–' }, { head: w.subject, cell: m => m.subject ?? '–' }, { head: w.lines, right: true, cell: m => whole(m.lines) },
        { head: w.verdict, cell: m => <Verdicts of={m.verdicts} /> }]} />
    </Section>
    <Section title={w.timeline}>
      <Table caption={w.timeline} rows={c.history ?? []} empty={w.none} keyOf={(_, i) => i} columns={[
        { head: w.time, cell: e => <span class="when">{stamp(e.time)}</span> }, { head: w.step, cell: e => named(w.caseStates, e.kind) }, { head: w.actor, cell: e => e.actor }, { head: w.reason, cell: e => e.note ?? '–' }]} />
    </Section>
  </>;
}

const Verdicts = ({ of }: { of?: Record<string, number> }) => <>{Object.entries(of ?? {}).filter(([, n]) => n).map(([v, n]) => <span key={v}><Badge of={v} words={w.verdicts} /> {n} </span>)}</>;
