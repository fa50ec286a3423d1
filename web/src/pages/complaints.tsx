import { useId, useState } from 'preact/hooks';
import { postText, Problem } from '../api';
import type { Complaint, Me, Note } from '../api';
import { stamp, who, whole } from '../format';
import { fill, lang, w } from '../i18n';
import { Badge, Empty, HostLink, IncidentLink, may, Section, Table } from '../ui';

const said = (n: Note) => lang === 'ru' ? n.ru : n.en;

export function Complaints({ me }: { me: Me }) {
  const id = useId();
  const [text, setText] = useState('');
  const [zone, setZone] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState('');
  const [got, setGot] = useState<Complaint>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError('');
    try {
      const mail = /^(Received|Return-Path|From|Delivered-To|MIME-Version|Message-ID|Date|Subject):/im.test(text.slice(0, 2000));
      const type = text.trimStart().startsWith('{') ? 'application/json' : mail ? 'message/rfc822' : 'text/plain';
      setGot(await postText<Complaint>('/complaints' + (zone ? '?zone=' + encodeURIComponent(zone) : ''), type, text));
    } catch (err) {
      setGot(undefined);
      setError(err instanceof Problem && err.status ? err.message : w.offline);
    }
    setBusy(false);
  };
  return <>
    <h1 tabIndex={-1}>{w.complaints}</h1>
    {may(me, 'abuse') ? <form class="act" onSubmit={submit}>
      <p class="note">{w.complaintText}</p>
      <label for={id}>{w.complaintLabel}</label>
      <textarea id={id} class="mono" rows={10} required value={text} onInput={e => setText(e.currentTarget.value)} spellcheck={false} />
      <div>
        <label>{w.complaintZone} <input value={zone} onInput={e => setZone(e.currentTarget.value)} placeholder="+03:00" size={14} /></label>
        <label>{w.file} <input type="file" onChange={async e => { const f = e.currentTarget.files?.[0]; if (f) setText(await f.text()); }} /></label>
        <button disabled={busy}>{w.complaintGo}</button>
      </div>
      {error && <p class="bad-text" role="alert">{error}</p>}
    </form> : <p class="note">{fill(w.needsRole, w.complaintGo, 'abuse', me.role)}</p>}
    {got && <Answer c={got} />}
  </>;
}

function Answer({ c }: { c: Complaint }) {
  const [copied, setCopied] = useState(false);
  const draft = lang === 'ru' ? c.draft.ru : c.draft.en;
  return <div role="status">
    {c.skew && <p class="warn-text">{fill(w.skew, c.skew.name, c.skew.explained, c.skew.of, c.skew.at_zero)}</p>}
    <Section title={w.cases}>
      <Table caption={w.cases} rows={c.cases} empty={w.noLines} keyOf={k => k.host + k.first} columns={[
        { head: w.address, cell: k => <HostLink ip={k.host} /> },
        { head: w.holder, cell: k => <>{who(k.holder)}{k.shared && <p class="warn-text">{w.shared}</p>}</> },
        { head: w.time, cell: k => stamp(k.first) + (k.first === k.last ? '' : ' … ' + stamp(k.last)) },
        { head: w.lines, right: true, cell: k => whole(k.lines) },
        { head: w.verdict, cell: k => Object.entries(k.counts).filter(([, n]) => n).map(([v, n]) => <span key={v}><Badge of={v} words={w.verdicts} /> {n} </span>) },
        { head: w.incident, cell: k => k.incident ? <IncidentLink id={k.incident.id}><Badge of={k.incident.state} words={w.states} /></IncidentLink> : '–' },
      ]} />
      {c.cases.flatMap(k => k.notes).map(n => <p class="note" key={n.code}>{said(n)}</p>)}
    </Section>
    <Section title={w.lines}>
      <Table caption={w.lines} rows={c.lines.slice(0, 500)} empty={w.noLines} keyOf={(l, i) => l.line + '/' + i} columns={[
        { head: '#', right: true, cell: l => l.line }, { head: w.verdict, cell: l => <Badge of={l.verdict} words={w.verdicts} /> },
        { head: w.time, cell: l => stamp(l.time) }, { head: w.line, cell: l => <><span class="mono raw">{l.raw}</span><br />{lang === 'ru' ? l.text_ru : l.text}{l.notes.map(n => <span class="note" key={n.code}> {said(n)}</span>)}</> },
      ]} />
      {c.unread_count > 0 && <details><summary>{fill(w.unread, whole(c.unread_count))}</summary>
        <ul>{c.unread.map((u, i) => <li key={i}><span class="mono raw">{u.line}: {u.raw}</span> <span class="note">{u.reason}</span></li>)}</ul></details>}
    </Section>
    <Section title={w.draft} extra={<button type="button" onClick={async () => { await navigator.clipboard.writeText(draft); setCopied(true); }}>{copied ? w.copied : w.copy}</button>}>
      {draft ? <pre tabIndex={0} aria-label={w.draft}>{c.draft.subject + '\n\n' + draft}</pre> : <Empty>{w.none}</Empty>}
    </Section>
  </div>;
}
