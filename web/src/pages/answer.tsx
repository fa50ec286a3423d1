import { useState } from 'preact/hooks';
import type { Complaint, Note } from '../api';
import { stamp, who, whole } from '../format';
import { fill, lang, named, w } from '../i18n';
import type { Lang } from '../i18n';
import { Badge, Choice, copyText, Empty, HostLink, IncidentLink, Section, Table, TenantLink } from '../ui';

const said = (n: Note) => lang === 'ru' ? n.ru : n.en;
const MOST = 500; // lines that are shown

// Answer is what the matcher makes of a complaint.
export function Answer({ c }: { c: Complaint }) {
  const total = Object.entries(c.counts ?? {}).filter(([, n]) => n);
  return <div role="status">
    <p class="sums"><strong>{fill(w.readLines, whole(c.lines.length))}</strong> {total.map(([v, n]) => <span key={v}><Badge of={v} words={w.verdicts} /> {whole(n)} </span>)}
      {c.unread_count > 0 && <span class="warn-text">{fill(w.unread, whole(c.unread_count))}</span>}</p>
    {c.opened?.map(o => <p class="ok-text" key={o.id}>{fill(o.joined ? w.caseJoined : w.caseOpened, '')}<a href={'#/complaints/' + encodeURIComponent(o.id)}>{o.id}</a></p>)}
    {c.skew && <p class={c.skew.significant ? 'warn-text' : 'note'}>{lang === 'ru' ? c.skew.text_ru : c.skew.text}</p>}
    <About c={c} />
    <Lines c={c} />
    {c.notes.map(n => <p class="warn-text" key={n}>{n}</p>)}
    <Draft of={c.draft} />
  </div>;
}

function About({ c }: { c: Complaint }) {
  return <Section title={w.cases}>
    <Table caption={w.cases} rows={c.cases} empty={w.noLines} keyOf={k => k.host + k.first} columns={[
      { head: w.address, cell: k => <HostLink ip={k.host} /> },
      { head: w.holderThen, cell: k => <>{k.holder?.tenant ? <TenantLink customer={k.holder.tenant}>{who(k.holder)}</TenantLink> : who(k.holder)}{k.shared && <p class="warn-text tight">{w.shared}</p>}</> },
      { head: w.time, cell: k => stamp(k.first) + (k.first === k.last ? '' : ' … ' + stamp(k.last)) },
      { head: w.lines, right: true, cell: k => whole(k.lines) },
      { head: w.verdict, cell: k => Object.entries(k.counts).filter(([, n]) => n).map(([v, n]) => <span key={v}><Badge of={v} words={w.verdicts} /> {n} </span>) },
      { head: w.incident, cell: k => k.incident ? <IncidentLink id={k.incident.id}>{named(w.states, k.incident.state)}</IncidentLink> : '–' },
    ]} />
    {[...new Map(c.cases.flatMap(k => k.notes).map(n => [n.code, n])).values()].map(n => <p class="note" key={n.code}>{said(n)}</p>)}
  </Section>;
}

function Lines({ c }: { c: Complaint }) {
  return <Section title={w.lineList}>
    <Table caption={w.lineList} rows={c.lines.slice(0, MOST)} empty={w.noLines} keyOf={(l, i) => l.line + '/' + i} columns={[
      { head: '№', right: true, cell: l => l.line }, { head: w.verdict, cell: l => <><Badge of={l.verdict} words={w.verdicts} />{w.readBy[l.traffic?.resolution ?? ''] && <p class="note tight">{w.readBy[l.traffic?.resolution ?? '']}</p>}</> },
      { head: w.time, cell: l => <span class="when">{stamp(l.time)}</span> },
      { head: w.line, cell: l => <><span class="mono raw">{l.raw}</span><br />{lang === 'ru' ? l.text_ru : l.text}{l.notes.map(n => <span class="note" key={n.code}> {said(n)}</span>)}</> },
    ]} />
    {c.lines.length > MOST && <p class="note">{fill(w.firstOnly, whole(MOST), whole(c.lines.length))}</p>}
    {c.unread_count > 0 && <details open={!c.lines.length}><summary>{fill(w.unread, whole(c.unread_count))}</summary>
      <ul>{c.unread.map((u, i) => <li key={i}><span class="mono raw">{u.line}: {u.raw}</span> <span class="note">{u.detail}</span></li>)}</ul></details>}
  </Section>;
}

const LETTERS = [['en', 'English'], ['ru', 'Русский']] as const;

// Draft is the reply in the reporter's language, which need not be the reader's.
export function Draft({ of }: { of?: Complaint['draft'] }) {
  const [copied, setCopied] = useState('');
  const [letter, setLetter] = useState<Lang>(lang);
  const text = of?.[letter] ?? '';
  return <Section title={w.draft} extra={text && <>
    <Choice label={w.draftIn} value={letter} set={v => setLetter(v as Lang)} of={LETTERS.map(l => [...l])} />
    <button type="button" onClick={async () => setCopied(await copyText(text) ? text : '')}>{copied === text ? w.copied : w.copy}</button>
  </>}>
    {text ? <pre tabIndex={0} aria-label={w.draft} lang={letter} class="letter">{(of?.subject ? of.subject + '\n\n' : '') + text}</pre> : <Empty>{w.none}</Empty>}
  </Section>;
}
