import { useState } from 'preact/hooks';
import { get, save } from '../api';
import type { Event, Evidence, Incident, Me, Problem } from '../api';
import { ago, clockOf, decimal, isTime, stamp, who, whole } from '../format';
import { fill, named, w } from '../i18n';
import { codeText, findingText, toldText } from '../told';
import { aboutIncident, useLive } from '../live';
import { CopyLink } from '../range';
import { Badge, Empty, Facts, Failed, HostLink, Mail, may, Order, Section, Table, TenantLink } from '../ui';
import { measure, rules } from './lists';
import { ScanPicture } from './scan';

export function IncidentPage({ id, me }: { id: string; me: Me }) {
  const path = '/incidents/' + encodeURIComponent(id);
  const one = useLive(s => get<{ incident: Incident; events: Event[] }>(path, s), [id], { about: aboutIncident(id) });
  const key = (one.data?.incident.state ?? '') + (one.data ? 1 : 0);
  const ev = useLive(s => get<Evidence>(path + '/evidence', s), [id, key], { every: 0 });
  if (!one.data) return one.error && one.error.status ? <Missing error={one.error} /> : <Empty>{w.loading}</Empty>;
  const { incident: i, events } = one.data;
  return <>
    <p><a href="#/incidents">← {w.incidents}</a></p>
    <div class="title"><h1 tabIndex={-1}>{rules(i.rules)} · <HostLink ip={i.tenant} /> <Badge of={i.state} words={w.states} /></h1><CopyLink /></div>
    {i.refuse && <p class="bad-text">{w.refuse}</p>}
    {i.probation && <p class="warn-text">{w.probation}</p>}
    <Facts of={[
      [w.holder, i.holder.tenant ? <TenantLink customer={i.holder.tenant}>{who(i.holder)}</TenantLink> : who(i.holder)], [w.doubt, i.holder.doubt_why || i.holder.doubt], [w.contact, i.holder.contact && <Mail to={i.holder.contact} />], [w.hypervisor, i.holder.hypervisor], [w.opened, `${stamp(i.opened)} (${ago(i.opened)})`],
      [w.measure, measure(i)], [w.whyHere, toldText(i.why, i.reason)], [w.lastError, i.restore?.error || i.action?.error], [w.prior, i.prior ? whole(i.prior) : ''], [w.statement, i.statement],
      [w.would, i.would?.length ? <ul class="mono plain">{i.would.map(c => <li key={c}>{c}</li>)}</ul> : ''], [w.id, <span class="mono">{i.id}</span>],
    ]} />
    <Section title={w.whatFired}><Findings i={i} /></Section>
    <Picture i={i} />
    <Orders i={i} me={me} path={path} refresh={one.refresh} />
    <Section title={w.evidence} extra={ev.data && <Bundle id={i.id} path={path} me={me} />}>{ev.data ? <Logs e={ev.data} /> : <Empty>{ev.error ? ev.error.message : w.loading}</Empty>}</Section>
    <Section title={w.timeline}>
      <Table caption={w.timeline} rows={events} empty={w.none} keyOf={e => e.seq} columns={[
        { head: w.time, cell: e => <time class="when" dateTime={e.time}>{stamp(e.time)}</time> }, { head: w.step, cell: e => <span title={e.kind}>{named(w.steps, e.kind)}</span> },
        { head: w.actor, cell: e => e.actor }, { head: w.reason, cell: e => codeText(e.reason) || '–' }]} />
    </Section>
  </>;
}

function Findings({ i }: { i: Incident }) {
  if (!i.findings.length) return <Empty>{w.noFindings}</Empty>;
  return <ul class="findings">{i.findings.map(f => <li key={f.rule + f.port + f.remote}>
    <strong>{named(w.rules, f.rule)}: </strong><span title={f.reason}>{findingText(f)}</span>
    <p class="note tight">{fill(w.score, decimal(f.score, 1), decimal(f.threshold, 1), whole(f.samples), whole(Math.round(f.sampling_rate)), stamp(f.from), clockOf(f.to))}
      {f.gates?.length ? ' ' + fill(w.heldBy, f.gates.map(g => named(w.gates, g)).join(', ')) : ''}{f.exempt && <> <a href={'#/exemptions?status=all&id=' + encodeURIComponent(f.exempt)}>{fill(w.exemptBy, f.exempt)}</a></>}</p>
  </li>)}</ul>;
}

const MINUTE = 60_000;

// Picture shows what was tried from before the finding until after the act.
function Picture({ i }: { i: Incident }) {
  const first = i.findings[0];
  if (!first) return null;
  const acts = [[i.action, w.markCut], [i.restore, w.markBack]] as const;
  const markers = acts.flatMap(([a, text]) => a && isTime(a.done ?? a.intent) ? [{ t: Date.parse(a.done ?? a.intent), text }] : []);
  const from = Date.parse(first.from) - MINUTE, last = Date.parse(first.to) + MINUTE;
  const to = Math.max(last, ...markers.filter(m => m.t < last + 15 * MINUTE).map(m => m.t + MINUTE));
  return <ScanPicture ip={i.tenant} from={from} to={to} markers={markers} tools={<a href={`#/hosts/${encodeURIComponent(i.tenant)}?from=${new Date(from).toISOString()}&to=${new Date(to).toISOString()}`}>{w.showHost}</a>} />;
}

function Bundle({ id, path, me }: { id: string; path: string; me: Me }) {
  const [said, say] = useState('');
  if (!may(me, 'abuse')) return null;
  const fetchIt = async () => { try { await save(path + '/bundle', 'application/zip', `evidence-${id}.zip`); say(''); } catch (e) { say((e as Error).message); } };
  return <><button type="button" onClick={fetchIt}>{w.bundle}</button>{said && <span class="bad-text" role="alert">{said}</span>}</>;
}

function Missing({ error }: { error: Problem }) {
  return <><p><a href="#/">{w.back}</a></p><h1 tabIndex={-1}>{w.nothing}</h1><Failed error={error} /></>;
}

function Logs({ e }: { e: Evidence }) {
  return <>
    <p class="note">{fill(w.evidenceFrom, whole(e.rows), stamp(e.from), stamp(e.to), stamp(e.frozen))} {e.truncated && w.truncated}</p>
    {e.logs.map((l, n) => <details key={l.form} open={n === 0}>
      <summary>{named(w.forms, l.form)} <span class="note">{l.name}</span></summary>
      <pre tabIndex={0} aria-label={l.name}>{l.text}</pre>
    </details>)}
  </>;
}

const CLOSABLE = ['open', 'notified', 'held', 'awaiting_approval', 'failed'];
const TAKABLE = ['held', 'awaiting_approval', 'failed'];
const HOLDING = ['suspending', 'suspended', 'verified', 'unverified'];

function Orders({ i, me, path, refresh }: { i: Incident; me: Me; path: string; refresh: () => void }) {
  const [port, setPort] = useState('22');
  const holding = HOLDING.includes(i.state) || i.state === 'failed' && !!i.restore;
  const done = () => refresh();
  if (!holding && !CLOSABLE.includes(i.state)) return null;
  return <Section title={w.whatToDo}><div class="orders" key={i.state}>
    {holding && <Order me={me} tone="primary" role="abuse" label={w.doRelease} hint={w.hintRelease} field="statement" path={path + '/release'} done={done} />}
    {holding && <Order me={me} role="operator" label={w.doMistake} hint={w.hintMistake} field="reason" path={path + '/mistake'} done={done} />}
    {TAKABLE.includes(i.state) && !i.restore && <Order me={me} tone="danger" role="operator" label={w.doApprove} hint={w.hintApprove} field="reason" path={path + '/approve'} done={done} />}
    {CLOSABLE.includes(i.state) && <Order me={me} role="abuse" label={w.doClose} hint={w.hintClose} field="reason" path={path + '/close'} done={done} />}
    {CLOSABLE.includes(i.state) && i.state !== 'failed' && <Order me={me} role="operator" label={w.doBlock} hint={w.hintBlock} field="reason" path={path + '/restrict'} done={done}
      more={() => ({ measure: 'block_port', ports: [{ proto: i.findings[0]?.ip_proto === 17 ? 17 : 6, port: Number(port) }] })}
      fields={<label class="block">{w.port} <input type="number" min="1" max="65535" required value={port} onInput={e => setPort(e.currentTarget.value)} /></label>} />}
  </div></Section>;
}
