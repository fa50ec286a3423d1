import { useState } from 'preact/hooks';
import { get } from '../api';
import type { AuditEntry, Me, Read } from '../api';
import { stamp, whole } from '../format';
import { fill, lang, named, w } from '../i18n';
import { toldText } from '../told';
import { useLive } from '../live';
import { go, useRoute } from '../route';
import { Empty, Failed, HostLink, IncidentLink, may, Order, Section, Table } from '../ui';

// textOf: what a customer stated stands behind the sentence.
const textOf = (e: AuditEntry) => {
  if (lang !== 'ru' || !e.why) return e.text || e.reason;
  const [, statement] = (e.text ?? '').split('; statement: ');
  return toldText(e.why) + (statement ? ' · ' + statement : '');
};

export function Audit({ me }: { me: Me }) {
  const { query } = useRoute();
  const before = query.get('before') ?? '';
  const [since, setSince] = useState('-1h');
  const q = new URLSearchParams({ limit: '100' });
  for (const k of ['incident', 'tenant', 'customer', 'actor', 'kind']) { const v = query.get(k); if (v) q.set(k, v); }
  if (before) q.set('before', before);
  const log = useLive(s => get<{ entries: AuditEntry[]; next?: number }>('/audit?' + q, s), [q.toString()], { every: before ? 0 : 5000, about: n => n.name === 'incident' || n.name === 'freeze' });
  return <>
    <h1 tabIndex={-1}>{w.audit}</h1>
    {!may(me, 'operator') ? <p class="note">{fill(w.needsRole, w.audit, 'operator', me.role)}</p> : <>
      <Section title={w.auditList} busy={log.old}>
        <div class="filters">
          {(['actor', 'kind', 'incident', 'tenant', 'customer'] as const).map(k => <Filter key={k} name={k} label={w.auditBy[k]} value={query.get(k) ?? ''} />)}
        </div>
        <Failed error={log.error} />
        {log.data ? <Table caption={w.audit} rows={log.data.entries} empty={w.auditEmpty} keyOf={e => e.seq} columns={[
          { head: w.time, cell: e => <span class="when">{stamp(e.time)}</span> }, { head: w.actor, cell: e => e.actor }, { head: w.kind, cell: e => <span title={e.kind}>{named(w.steps, e.kind)}</span> },
          { head: w.address, cell: e => e.tenant ? <HostLink ip={e.tenant} /> : '–' }, { head: w.incident, cell: e => e.incident ? <IncidentLink id={e.incident} /> : '–' },
          { head: w.measure, cell: e => [e.measure && named(w.measures, e.measure), e.adapter].filter(Boolean).join(' · ') || '–' },
          { head: w.reason, cell: e => <>{textOf(e) || '–'}{e.error && <span class="bad-text"> {e.error}</span>}</> }, { head: w.outcome, cell: e => named(w.outcomes, e.outcome ?? '') },
        ]} /> : <Empty>{log.error ? '' : w.loading}</Empty>}
        {log.data?.next && <p><button type="button" onClick={() => go('/audit', { before: String(log.data!.next) })}>{w.next}</button></p>}
      </Section>
      {may(me, 'admin') && <Reads />}
      <Section title={w.undoTitle}>
        <p class="note">{w.undoText}</p>
        <Order me={me} role="admin" tone="danger" label={w.undoGo} hint={w.undoHint} field="reason" path="/undo" more={() => ({ since })}
          fields={<label class="block">{w.undoSince} <input required value={since} onInput={e => setSince(e.currentTarget.value)} size={24} /></label>}
          done={a => { const u = a as { giving_back: string[]; before: string[] }; log.refresh(); return fill(w.undone, u.giving_back.length, u.before.length); }} />
      </Section>
    </>}
  </>;
}

function Filter({ name, label, value }: { name: string; label: string; value: string }) {
  const set = (v: string) => { if (v !== value) go('/audit', { [name]: v, before: '' }); };
  return <form class="field" onSubmit={e => { e.preventDefault(); set(new FormData(e.currentTarget).get(name)!.toString().trim()); }}>
    <label>{label} <input key={value} name={name} defaultValue={value} size={14} placeholder={w.all} onBlur={e => set(e.currentTarget.value.trim())} /></label>
  </form>;
}

// Reads are who looked at personal data; asked for when they are wanted, since
// the question is itself such a look.
function Reads() {
  const [open, setOpen] = useState(false);
  return <Section title={w.reads}>
    <p class="note">{w.readsText}</p>
    {open ? <ReadList /> : <button type="button" onClick={() => setOpen(true)}>{w.show}</button>}
  </Section>;
}

function ReadList() {
  const got = useLive(s => get<{ reads: Read[] }>('/audit/reads?limit=200', s), [], { every: 0 });
  return <>
    <Failed error={got.error} />
    {got.data ? <Table caption={w.reads} rows={got.data.reads} empty={w.auditEmpty} keyOf={(_, i) => i} columns={[
      { head: w.time, cell: r => <span class="when">{stamp(r.last || r.time)}</span> }, { head: w.actor, cell: r => `${r.actor} (${r.role})` }, { head: w.kind, cell: r => r.operation },
      { head: w.address, cell: r => r.target || '–' }, { head: w.times, right: true, cell: r => whole(r.count) },
    ]} /> : <Empty>{got.error ? '' : w.loading}</Empty>}
  </>;
}
