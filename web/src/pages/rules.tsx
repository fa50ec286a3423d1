import { useState } from 'preact/hooks';
import { get, post, Problem } from '../api';
import type { Case, Me, Precision, Proposal } from '../api';
import { decimal, stamp, whole } from '../format';
import { fill, named, w } from '../i18n';
import { adviceText, findingText, problemText } from '../told';
import { useLive } from '../live';
import { go, useRoute } from '../route';
import { Badge, Choice, Empty, Failed, HostLink, may, Section, Table } from '../ui';

const DAY = 864e5;
const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
const percent = (x: number) => decimal(100 * x, x > 0.995 && x < 1 || x < 0.1 && x > 0 ? 1 : 0) + '\u00a0%';

export function RulesPage({ me }: { me: Me }) {
  const { query } = useRoute();
  const days = Number(query.get('days')) || 14, from = day(Date.now() - (days - 1) * DAY);
  const precision = useLive(s => get<{ precision: Precision[] }>('/rules/precision?from=' + from, s), [from], { every: 60_000 });
  const proposals = useLive(s => get<{ proposals: Proposal[] }>('/rules/proposals', s), [], { every: 60_000 });
  const again = () => { precision.refresh(); proposals.refresh(); };
  return <>
    <h1 tabIndex={-1}>{w.rulesTitle}</h1>
    <p class="note lead">{w.rulesText}</p>
    <Section title={w.precision} busy={precision.old} extra={<Choice label={w.range} value={String(days)} set={v => go('/rules', { days: v })} of={[['7', w.days7], ['14', w.days14], ['30', w.days30], ['90', w.days90]]} />}>
      <Failed error={precision.error} />
      {precision.data ? <Precisions list={precision.data.precision} /> : <Empty>{precision.error ? '' : w.loading}</Empty>}
    </Section>
    <Section title={w.proposals}>
      <Failed error={proposals.error} />
      {proposals.data ? <Proposals list={proposals.data.proposals} /> : <Empty>{proposals.error ? '' : w.loading}</Empty>}
    </Section>
    <Cases me={me} from={from} marked={again} />
  </>;
}

function Precisions({ list }: { list: Precision[] }) {
  return <Table caption={w.precision} rows={list} empty={w.noCases} keyOf={p => p.rule + p.tier} columns={[
    { head: w.rule, cell: p => <a href={`#/rules?rule=${p.rule}`}>{named(w.rules, p.rule)}</a> },
    { head: w.tier, cell: p => <Badge of={'tier_' + p.tier} words={w.tiers} /> },
    { head: w.cases2, right: true, cell: p => whole(p.cases) },
    { head: w.right, right: true, cell: p => whole(p.right) },
    { head: w.wrong, right: true, cell: p => p.wrong ? <span class="bad-text">{whole(p.wrong)}</span> : '0' },
    { head: w.unmarked, right: true, cell: p => whole(p.unmarked) },
    { head: w.precision, right: true, cell: p => p.right + p.wrong ? <strong>{percent(p.precision)}</strong> : '–' },
    { head: w.interval, cell: p => p.right + p.wrong ? <Interval p={p} /> : <span class="note">{w.notMarked}</span> },
  ]} />;
}

// Interval draws where the true share lies, with 95 %: a wide bar knows little.
function Interval({ p }: { p: Precision }) {
  const text = fill(w.between, percent(p.low), percent(p.high));
  return <span class="interval" title={text}><svg viewBox="0 0 100 12" width="100" height="12" aria-hidden="true">
    <rect x="0" y="5" width="100" height="2" class="track" /><rect x={100 * p.low} y="2" width={Math.max(1, 100 * (p.high - p.low))} height="8" class="span" /><rect x={100 * p.precision - 1} y="0" width="2" height="12" class="mid" />
  </svg> <span class="note">{text}</span></span>;
}

function Proposals({ list }: { list: Proposal[] }) {
  return <Table caption={w.proposals} rows={list} empty={w.noProposals} keyOf={p => p.key} columns={[
    { head: w.rule, cell: p => named(w.rules, p.rule) },
    { head: w.key, cell: p => <span class="mono raw">{p.key}</span> },
    { head: w.now, right: true, cell: p => p.now },
    { head: w.proposed, right: true, cell: p => <strong>{p.proposed}</strong> },
    { head: w.wouldMiss, cell: p => fill(w.missed, p.missed_right, p.right, p.missed_unmarked) },
    { head: w.wrongAt, cell: p => <ul class="plain">{(p.wrong_tenants ?? []).map(t => <li key={t}><HostLink ip={t} /></li>)}</ul> },
    { head: w.advice, cell: p => adviceText(p) },
  ]} />;
}

function Cases({ me, from, marked }: { me: Me; from: string; marked: () => void }) {
  const { query } = useRoute();
  const rule = query.get('rule') ?? '', verdict = query.get('verdict') ?? 'unmarked', tier = query.get('tier') ?? 'notify', tenant = query.get('tenant') ?? '';
  const q = new URLSearchParams({ from, limit: '100', tier });
  if (rule) q.set('rule', rule);
  if (tenant) q.set('tenant', tenant);
  if (verdict !== 'all') q.set('verdict', verdict);
  const got = useLive(s => get<{ cases: Case[] }>('/rules/cases?' + q, s), [q.toString()], { every: 60_000 });
  const set = (k: string) => (v: string) => go('/rules', { [k]: v });
  return <Section title={w.casesTitle} busy={got.old} extra={<>
    <Choice label={w.rule} value={rule} set={set('rule')} of={[['', w.all], ...Object.entries(w.rules)]} />
    <Choice label={w.tierFrom} value={tier} set={set('tier')} of={Object.entries(w.tiers).filter(([k]) => k !== 'tier_none').map(([k, v]) => [k.slice(5), v])} />
    <Choice label={w.mark} value={verdict} set={set('verdict')} of={[['unmarked', w.unmarked], ['right', w.right], ['wrong', w.wrong], ['all', w.all]]} />
  </>}>
    <Failed error={got.error} />
    {got.data ? <Table caption={w.casesTitle} rows={got.data.cases} empty={w.noCases} keyOf={c => c.id} columns={[
      { head: w.day, cell: c => <><span class="when">{c.day}</span><br /><span class="note">{stamp(c.first).slice(11)}–{stamp(c.last).slice(11)}</span></> },
      { head: w.address, cell: c => <a class="mono" href={`#/hosts/${encodeURIComponent(c.tenant)}?from=${encodeURIComponent(c.best.from)}&to=${encodeURIComponent(c.best.to)}`}>{c.tenant}</a> },
      { head: w.rule, cell: c => <>{named(w.rules, c.rule)}<br /><Badge of={'tier_' + c.tier} words={w.tiers} /></> },
      { head: w.why, cell: c => <><span title={c.best.reason}>{findingText(c.best)}</span> <span class="note">{fill(w.scoreShort, decimal(c.best.score, 1), decimal(c.best.threshold, 1), whole(c.findings))}</span></> },
      { head: w.mark, cell: c => <MarkForm key={c.id + (c.mark?.verdict ?? '')} c={c} me={me} done={() => { got.refresh(); marked(); }} /> },
    ]} /> : <Empty>{got.error ? '' : w.loading}</Empty>}
  </Section>;
}

// MarkForm says of a case that its rule was right or wrong; a reason is needed,
// as colleagues read it in a year.
function MarkForm({ c, me, done }: { c: Case; me: Me; done: () => void }) {
  const [verdict, choose] = useState('');
  const [reason, setReason] = useState('');
  const [said, say] = useState('');
  const shown = c.mark && c.mark.verdict !== 'unsure' ? <p class="tight"><Badge of={'mark_' + c.mark.verdict} words={w.marks} /> {c.mark.reason} <span class="note">{c.mark.by}, {stamp(c.mark.time)}</span></p> : null;
  if (!may(me, 'abuse')) return shown ?? <span class="note">{w.unmarked}</span>;
  const send = async (e: Event) => {
    e.preventDefault();
    try { await post('/rules/cases/mark', { id: c.id, verdict, reason }); done(); } catch (err) { say(err instanceof Problem && err.status ? problemText(err) : w.offline); }
  };
  if (!verdict) return <>{shown}<span class="pick">
    {!shown && <><button type="button" onClick={() => choose('right')}>{w.isRight}</button> <button type="button" onClick={() => choose('wrong')}>{w.isWrong}</button></>}
    {shown && <button type="button" class="quiet" onClick={() => choose('unsure')}>{w.takeBack}</button>}</span></>;
  return <form class="mark" onSubmit={send}>
    <label>{w.marks['mark_' + verdict]}: {w.markWhy} <input required maxLength={1000} value={reason} onInput={e => setReason(e.currentTarget.value)} ref={e => { if (e && !e.dataset.seen) { e.dataset.seen = '1'; e.focus(); } }} /></label>
    <button>{w.save}</button> <button type="button" class="quiet" onClick={() => choose('')}>{w.cancel}</button>
    {said && <p class="bad-text" role="alert">{said}</p>}
  </form>;
}
