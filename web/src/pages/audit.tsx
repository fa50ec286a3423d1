import { useState } from 'preact/hooks';
import { get } from '../api';
import type { AuditEntry, Me } from '../api';
import { stamp } from '../format';
import { fill, named, w } from '../i18n';
import { useLive } from '../live';
import { go, useRoute } from '../route';
import { Empty, Failed, HostLink, IncidentLink, may, Order, Section, Table } from '../ui';

export function Audit({ me }: { me: Me }) {
  const { query } = useRoute();
  const before = query.get('before') ?? '';
  const [since, setSince] = useState('-1h');
  const q = new URLSearchParams({ limit: '100' });
  for (const k of ['incident', 'tenant', 'customer', 'actor', 'kind']) { const v = query.get(k); if (v) q.set(k, v); }
  if (before) q.set('before', before);
  const log = useLive(s => get<{ entries: AuditEntry[]; next?: number }>('/audit?' + q, s), [q.toString()], before ? 0 : 5000);
  return <>
    <h1 tabIndex={-1}>{w.audit}</h1>
    {!may(me, 'operator') ? <p class="note">{fill(w.needsRole, w.audit, 'operator', me.role)}</p> : <>
      <Section title={w.audit}>
        <Failed error={log.error} />
        {log.data ? <Table caption={w.audit} rows={log.data.entries} empty={w.auditEmpty} keyOf={e => e.seq} columns={[
          { head: w.time, cell: e => stamp(e.time) }, { head: w.actor, cell: e => e.actor }, { head: w.kind, cell: e => e.kind },
          { head: w.address, cell: e => e.tenant ? <HostLink ip={e.tenant} /> : '–' }, { head: w.incident, cell: e => <IncidentLink id={e.incident} /> },
          { head: w.measure, cell: e => [e.measure && named(w.measures, e.measure), e.adapter].filter(Boolean).join(' · ') || '–' },
          { head: w.reason, cell: e => <>{e.text || e.reason || '–'}{e.error && <span class="bad-text"> {e.error}</span>}</> }, { head: w.outcome, cell: e => e.outcome ?? '' },
        ]} /> : <Empty>{log.error ? '' : w.loading}</Empty>}
        {log.data?.next && <p><button type="button" onClick={() => go('/audit', { before: String(log.data!.next) })}>{w.next}</button></p>}
      </Section>
      <Section title={w.undoTitle}>
        <p class="note">{w.undoText}</p>
        <Order me={me} role="admin" label={w.undoGo} hint={w.undoHint} field="reason" path="/undo" more={() => ({ since })}
          fields={<label>{w.undoSince} <input required value={since} onInput={e => setSince(e.currentTarget.value)} size={24} /></label>}
          done={a => { const u = a as { giving_back: string[]; before: string[] }; log.refresh(); return fill(w.undone, u.giving_back.length, u.before.length); }} />
      </Section>
    </>}
  </>;
}
