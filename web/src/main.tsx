import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { forgetAnswers, get, methods, Problem, session, signOut, token } from './api';
import type { Me, Methods } from './api';
import { startFeed, stopFeed, watchNews } from './feed';
import { fill, lang, w } from './i18n';
import { problemText } from './told';
import { stamp, zone } from './format';
import { onAnswer } from './live';
import { useRoute } from './route';
import type { Route } from './route';
import { Audit } from './pages/audit';
import { CasePage } from './pages/cases';
import { Complaints } from './pages/complaints';
import { Exemptions } from './pages/exemptions';
import { ExporterList } from './pages/exporters';
import { HostPage } from './pages/host';
import { IncidentPage } from './pages/incident';
import { IncidentList } from './pages/incidents';
import { Overview } from './pages/overview';
import { RulesPage } from './pages/rules';
import { Search } from './pages/search';
import { TenantPage } from './pages/tenant';
import { Footer, Freshness, Help, Login, setTheme, theme, Toasts } from './shell';
import './style.css';

setTheme(theme());

const NAV: [string, string, () => string][] = [
  ['o', '', () => w.overview], ['i', 'incidents', () => w.incidents], ['c', 'complaints', () => w.complaints], ['r', 'rules', () => w.rulesNav], ['x', 'exemptions', () => w.exemptions],
  ['e', 'exporters', () => w.exporters], ['a', 'audit', () => w.audit],
];

function Page({ r, me }: { r: Route; me: Me }) {
  switch (r.page) {
    case 'incidents': return r.arg ? <IncidentPage key={r.arg} id={r.arg} me={me} /> : <IncidentList />;
    case 'hosts': return r.arg ? <HostPage key={r.arg} ip={r.arg} me={me} /> : <Overview me={me} />;
    case 'complaints': return r.arg ? <CasePage key={r.arg} id={r.arg} me={me} /> : <Complaints me={me} />;
    case 'exporters': return <ExporterList />;
    case 'rules': return <RulesPage me={me} />;
    case 'exemptions': return <Exemptions key={r.query.get('tenant') ?? r.query.get('customer') ?? ''} me={me} />;
    case 'tenants': return r.arg ? <TenantPage key={r.arg} id={r.arg} me={me} /> : <Overview me={me} />;
    case 'search': return <Search />;
    case 'audit': return <Audit me={me} />;
  }
  return <Overview me={me} />;
}

// keyboard: g and a letter go to a page, / to the search field, ? tells.
function useKeys(find: { current: HTMLInputElement | null }, help: (open: boolean) => void) {
  useEffect(() => {
    let g = false;
    const f = (e: KeyboardEvent) => {
      if (e.key === 'Escape') { help(false); if (e.target === find.current) find.current?.blur(); }
      if (e.ctrlKey || e.metaKey || e.altKey || e.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
      const to = g && NAV.find(n => n[0] === e.key);
      if (to) location.hash = '#/' + to[1];
      else if (e.key === '/') { e.preventDefault(); find.current?.focus(); find.current?.select(); } else if (e.key === '?') help(true);
      g = e.key === 'g';
    };
    addEventListener('keydown', f);
    return () => removeEventListener('keydown', f);
  }, []);
}

// One word that can be nothing but an address leads to its page at once.
const ADDRESS = /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7})$/i;

function Find({ field }: { field: { current: HTMLInputElement | null } }) {
  const r = useRoute();
  const [text, set] = useState(r.query.get('q') ?? '');
  const submit = (e: Event) => {
    e.preventDefault();
    const q = text.trim();
    if (q) location.hash = ADDRESS.test(q) ? '#/hosts/' + encodeURIComponent(q) : '#/search?q=' + encodeURIComponent(q);
    field.current?.blur();
  };
  return <form role="search" class="find" onSubmit={submit}>
    <label class="vh" for="find">{w.search}</label>
    <input id="find" ref={field} type="search" value={text} onInput={e => set(e.currentTarget.value)} placeholder={w.searchHint} autocomplete="off" spellcheck={false} enterkeyhint="search" />
    <kbd aria-hidden="true">/</kbd>
  </form>;
}

// useSession keeps who is there: by a token, which is checked once, and again when
// it is refused, or by the cookie of who signed in.
function useSession() {
  const [me, setMe] = useState<Me>();
  const [why, setWhy] = useState('');
  const [away, setAway] = useState(false);
  const [ways, setWays] = useState<Methods>();
  const leave = (text: string) => { stopFeed(); token.forget(); session.forget(); forgetAnswers(); setMe(undefined); setWhy(text); };
  const enter = async () => {
    try {
      const m = await get<Me>('/whoami');
      if (m.csrf) session.enter(m.csrf);
      setMe(m); setAway(false); setWhy(''); startFeed();
    } catch (e) {
      if (e instanceof Problem && e.status && e.status < 500 && e.status !== 429) leave(problemText(e)); else { setAway(true); setTimeout(enter, 3000); }
    }
  };
  const out = async () => { if (session.is()) await signOut(); leave(''); };
  useEffect(() => {
    if (token.get()) void enter();
    void methods().then(m => { setWays(m); if (m.session && !token.get()) void enter(); });
  }, []);
  useEffect(() => onAnswer(e => { if (e?.status === 401) leave(problemText(e)); setAway(e?.status === 0); }), []);
  useEffect(() => watchNews(n => { if (n.name === 'bye' && n.data.reason === 'token') void enter(); }), []);
  return { me, why, away, ways, leave: out, enter };
}

function App() {
  const r = useRoute();
  const [, again] = useState(0);
  const { me, why, away, ways, leave, enter } = useSession();
  const [help, setHelp] = useState(false);
  const find = useRef<HTMLInputElement>(null), main = useRef<HTMLElement>(null);
  useKeys(find, setHelp);
  const place = r.page + '/' + r.arg;
  useEffect(() => {
    document.title = (r.arg || NAV.find(n => n[1] === r.page)?.[2]() || (r.page === 'search' ? w.search : w.overview)) + ' – ' + w.title;
    window.scrollTo(0, 0);
    main.current?.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
  }, [place, me?.name, lang]);
  useEffect(() => document.querySelectorAll('nav [aria-current]').forEach(a => a.scrollIntoView({ block: 'nearest', inline: 'nearest' })), [location.hash, me?.name, lang]);
  return <>
    <a class="skip" href="#main" onClick={e => { e.preventDefault(); main.current?.focus(); }}>{w.skip}</a>
    <header>
      <a class="brand" href="#/"><img src="/icon.svg" alt="" width="24" height="24" />flowcordon</a>
      {me && <nav class="main" aria-label={w.title}>{NAV.map(([, page, name]) => <a key={page} href={'#/' + page} aria-current={r.page === page ? r.arg ? 'true' : 'page' : undefined}>{name()}</a>)}</nav>}
      {me && <Find key={lang + (r.page === 'search' ? r.query.get('q') : '')} field={find} />}
      {me && <Freshness />}
    </header>
    {away && <p class="alert" role="alert">{w.offline}</p>}
    <main id="main" ref={main} tabIndex={-1}>
      {me ? <Page key={lang + zone} r={r} me={me} /> : !token.get() && ways && (!ways.session || why) ? <Login text={why} oidc={ways.oidc} refused={r.query.get('refused') ?? ''} go={t => { token.set(t); void enter(); again(n => n + 1); }} /> : <p class="empty">{w.loading}</p>}
    </main>
    {me && <Toasts />}
    {help && <Help nav={NAV} close={() => setHelp(false)} />}
    <Footer changed={() => again(n => n + 1)} help={() => setHelp(true)} who={me && `${me.name} (${me.role})${me.expires ? ', ' + fill(w.expiresOn, stamp(me.expires).slice(0, 16)) : ''}`} leave={() => void leave()} out={session.is()} />
  </>;
}

render(<App />, document.getElementById('app')!);
