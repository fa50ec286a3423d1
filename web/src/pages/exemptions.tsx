import { useState } from 'preact/hooks';
import { get, post, Problem, remove } from '../api';
import type { Exemption, Me } from '../api';
import { ago, isTime, proto, stamp, whole } from '../format';
import { fill, named, w } from '../i18n';
import { problemText } from '../told';
import { useLive } from '../live';
import { go, useRoute } from '../route';
import { Badge, Choice, Empty, Failed, may, Section, Table } from '../ui';

export function Exemptions({ me }: { me: Me }) {
  const { query } = useRoute();
  const status = query.get('status') ?? 'active';
  const got = useLive(s => get<{ exemptions: Exemption[] }>('/exemptions?status=' + status, s), [status], { every: 30_000 });
  const [told, tell] = useState('');
  return <>
    <h1 tabIndex={-1}>{w.exemptions}</h1>
    <p class="note lead">{w.exemptText}</p>
    {may(me, 'operator') ? <Add tenant={query.get('tenant') ?? ''} customer={query.get('customer') ?? ''} me={me} done={id => { tell(fill(w.exemptAdded, id)); got.refresh(); }} /> : <p class="note">{fill(w.needsRole, w.exemptAdd, 'operator', me.role)}</p>}
    <p role="status" class="ok-text">{told}</p>
    <Section title={w.exemptions} busy={got.old} extra={<Choice label={w.state} value={status} set={v => go('/exemptions', { status: v })} of={['active', 'expired', 'removed', 'all'].map(s => [s, w.exemptStates[s]])} />}>
      <Failed error={got.error} />
      {got.data ? <ExemptionTable list={got.data.exemptions} me={me} mine={query.get('id') ?? ''} done={id => { tell(fill(w.exemptEnded, id)); got.refresh(); }} /> : <Empty>{got.error ? '' : w.loading}</Empty>}
    </Section>
  </>;
}

// scope says what an exemption is of, in words; an absent matcher means any.
export const scope = (e: Exemption): [string, string][] => ([
  [w.address, e.tenant], [w.tenant, e.customer], [w.rule, e.rule && named(w.rules, e.rule)], [w.proto, e.ip_proto && proto(e.ip_proto)], [w.port, e.port && String(e.port)],
  [w.remote, e.remote], [w.remoteAS, e.remote_as && 'AS' + e.remote_as],
] as [string, string | undefined][]).filter((x): x is [string, string] => !!x[1]);

export function ExemptionTable({ list, me, mine, done }: { list: Exemption[]; me: Me; mine: string; done: (id: string) => void }) {
  return <Table caption={w.exemptions} rows={list} empty={w.noExemptions} keyOf={e => e.id} mark={e => e.id === mine} columns={[
    { head: w.whatOf, cell: e => <ul class="plain">{scope(e).map(([k, v]) => <li key={k}><span class="note">{k}:</span> <span class="mono">{v}</span></li>)}</ul> },
    { head: w.reason, cell: e => <>{e.reason}<br /><span class="note">{fill(w.answersFor, e.owner)}{e.created_by && ', ' + fill(w.addedBy, e.created_by, stamp(e.created))}</span></> },
    { head: w.expires, cell: e => <>{isTime(e.expires) ? <span class="when">{stamp(e.expires)}</span> : w.never}{e.status !== 'active' && <> <Badge of={'exempt_' + e.status} words={{ ['exempt_' + e.status]: w.exemptStates[e.status] ?? e.status }} /></>}
      {e.warning && <p class="warn-text tight">{e.warning}</p>}</> },
    { head: w.hitsHead, right: true, cell: e => whole(e.hits?.findings ?? 0) },
    { head: w.lastHit, cell: e => isTime(e.hits?.last) ? <span title={stamp(e.hits.last)}>{ago(e.hits.last)}</span> : <span class="note">{w.neverHit}</span> },
    { head: '', cell: e => e.status === 'active' && may(me, 'operator') ? e.source === 'config' ? <span class="note">{w.fromFile}</span> : <End e={e} done={done} /> : '' },
  ]} />;
}

function End({ e, done }: { e: Exemption; done: (id: string) => void }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState('');
  const [said, say] = useState('');
  if (!open) return <button type="button" class="danger" onClick={() => setOpen(true)}>{w.exemptEnd}</button>;
  const send = async (ev: Event) => {
    ev.preventDefault();
    try { await remove(`/exemptions/${encodeURIComponent(e.id)}?reason=${encodeURIComponent(reason)}`, e.version); done(e.id); } catch (err) { say(err instanceof Problem && err.status ? problemText(err) : w.offline); }
  };
  return <form class="mark" onSubmit={send}>
    <label>{w.exemptEndWhy} <input required maxLength={1000} value={reason} onInput={x => setReason(x.currentTarget.value)} /></label>
    <button class="danger">{w.exemptEnd}</button> <button type="button" class="quiet" onClick={() => setOpen(false)}>{w.cancel}</button>
    {said && <p class="bad-text" role="alert">{said}</p>}
  </form>;
}

const LASTS: [string, string][] = [['+24h', '1'], ['+72h', '3'], ['+168h', '7'], ['+720h', '30'], ['+2160h', '90']];

function Add({ tenant, customer, me, done }: { tenant: string; customer: string; me: Me; done: (id: string) => void }) {
  const [open, setOpen] = useState(!!tenant || !!customer);
  const [error, setError] = useState('');
  const [busy, setBusy] = useState(false);
  if (!open) return <p><button type="button" class="primary" onClick={() => setOpen(true)}>{w.exemptAdd}</button></p>;
  const send = async (e: SubmitEvent) => {
    e.preventDefault();
    const form = e.currentTarget as HTMLFormElement, body: Record<string, unknown> = {};
    for (const [k, v] of new FormData(form)) { const t = String(v).trim(); if (t) body[k] = ['port', 'remote_as', 'ip_proto'].includes(k) ? Number(t.replace(/^AS/i, '')) : t; }
    if (!body.tenant && !body.customer) { setError(w.exemptNeeds); return; }
    if (body.expires === 'never') delete body.expires;
    setBusy(true);
    setError('');
    try { const x = await post<Exemption>('/exemptions', body); setOpen(false); done(x.id); } catch (err) { setError(err instanceof Problem && err.status ? problemText(err) : w.offline); }
    setBusy(false);
  };
  return <form class="act add" onSubmit={send}>
    <h2>{w.exemptAdd}</h2>
    <div class="fields">
      <label>{w.exemptTenant} <input name="tenant" defaultValue={tenant} placeholder="198.18.0.7" class="mono" /></label>
      <label>{w.exemptCustomer} <input name="customer" defaultValue={customer} placeholder="c-42" /></label>
      <label>{w.rule} <select name="rule"><option value="">{w.any}</option>{Object.entries(w.rules).map(([k, v]) => <option key={k} value={k}>{v}</option>)}</select></label>
      <label>{w.proto} <select name="ip_proto"><option value="">{w.any}</option><option value="6">tcp</option><option value="17">udp</option><option value="1">icmp</option><option value="58">icmpv6</option></select></label>
      <label>{w.port} <input name="port" type="number" min="1" max="65535" placeholder={w.any} /></label>
      <label>{w.exemptRemote} <input name="remote" placeholder={w.any} class="mono" /></label>
      <label>{w.remoteAS} <input name="remote_as" pattern="(AS|as)?\d{1,10}" placeholder={w.any} /></label>
      <label>{w.exemptLasts} <select name="expires" defaultValue="+168h">{LASTS.map(([v, d]) => <option key={v} value={v} selected={v === '+168h'}>{fill(w.nDays, d)}</option>)}<option value="never">{w.never}</option></select></label>
      <label>{w.exemptOwner} <input name="owner" required maxLength={200} defaultValue={me.name} /></label>
    </div>
    <label>{w.exemptReason} <textarea name="reason" rows={2} required maxLength={1000} /></label>
    {error && <p class="bad-text" role="alert">{error}</p>}
    <div><button class="primary" disabled={busy}>{w.exemptSave}</button> <button type="button" class="quiet" onClick={() => setOpen(false)}>{w.cancel}</button></div>
  </form>;
}
