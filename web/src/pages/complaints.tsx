import { useId, useState } from 'preact/hooks';
import { postText, Problem } from '../api';
import type { Complaint, Me } from '../api';
import { fill, w } from '../i18n';
import { problemText } from '../told';
import { may } from '../ui';
import { Answer } from './answer';
import { CaseList } from './cases';

const HEAD = /^(Received|Return-Path|From|Delivered-To|MIME-Version|Message-ID|Date|Subject):/im;
const typeOf = (text: string) => /^\s*[{[]/.test(text) ? 'application/json' : HEAD.test(text.slice(0, 2000)) ? 'message/rfc822' : 'text/plain';

export function Complaints({ me }: { me: Me }) {
  const [got, setGot] = useState<Complaint>();
  const [news, setNews] = useState(0);
  return <>
    <h1 tabIndex={-1}>{w.complaints}</h1>
    {may(me, 'abuse') ? <Box give={c => { setGot(c); if (c?.opened?.length) setNews(n => n + 1); }} /> : <p class="note">{fill(w.needsRole, w.complaintGo, 'abuse', me.role)}</p>}
    {got && <Answer c={got} />}
    {may(me, 'abuse') && <CaseList news={news} />}
  </>;
}

// Box takes a complaint as it came: pasted, dropped or chosen as a file.
function Box({ give }: { give: (c?: Complaint) => void }) {
  const id = useId();
  const [text, setText] = useState('');
  const [zone, setZone] = useState('');
  const [received, setReceived] = useState('');
  const [target, setTarget] = useState('');
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState('');
  const take = async (f?: File) => { if (f) setText(await f.text()); };
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError('');
    try {
      const q = new URLSearchParams();
      for (const [k, v] of [['zone', zone], ['received', received], ['target', target]] as const) if (v.trim()) q.set(k, v.trim());
      if (open) q.set('open', 'true');
      give(await postText<Complaint>('/complaints?' + q, typeOf(text), text));
    } catch (err) {
      give(undefined);
      setError(err instanceof Problem && err.status ? problemText(err) : w.offline);
    }
    setBusy(false);
  };
  return <form class="act" onSubmit={submit}>
    <label for={id}>{w.complaintLabel}</label>
    <p class="note" id={id + 'h'}>{w.complaintText}</p>
    <textarea id={id} aria-describedby={id + 'h'} class="mono" rows={8} required value={text} placeholder={'Nov 20 10:00:01 gw sshd[811]: Failed password for root from 198.18.0.7 port 52218 ssh2'}
      onInput={e => setText(e.currentTarget.value)} onDragOver={e => e.preventDefault()} onDrop={e => { if (e.dataTransfer?.files.length) { e.preventDefault(); void take(e.dataTransfer.files[0]); } }} spellcheck={false} />
    <div class="fields">
      <label>{w.complaintZone} <input value={zone} onInput={e => setZone(e.currentTarget.value)} placeholder="+03:00, Europe/Moscow" /></label>
      <label>{w.complaintReceived} <input value={received} onInput={e => setReceived(e.currentTarget.value)} placeholder="2026-11-20T12:00:00Z" /></label>
      <label>{w.complaintTarget} <input value={target} onInput={e => setTarget(e.currentTarget.value)} placeholder="203.0.113.9" /></label>
    </div>
    <div>
      <label class="file">{w.file} <input type="file" class="vh" onChange={e => take(e.currentTarget.files?.[0])} /></label>
      <label><input type="checkbox" checked={open} onChange={e => setOpen(e.currentTarget.checked)} /> {w.openCase}</label>
      <button class="primary" disabled={busy} aria-busy={busy}>{busy ? w.matching : w.complaintGo}</button>
    </div>
    {error && <p class="bad-text" role="alert">{error}</p>}
  </form>;
}
