// The REST interface as the dashboard uses it. Types name only what is shown.

export interface Holder { prefix?: string; tenant?: string; vds?: string; hypervisor?: string; nics?: string[]; contact?: string; language?: string; tags?: string[]; doubt?: string; doubt_why?: string }
export interface Told { code: string; values?: string[]; detail?: string }
export interface Finding {
  time: string; rule: string; tier: string; ip_proto: number; port?: number; remote?: string; window_s: number; samples: number; distinct: number;
  sampling_rate: number; score: number; threshold: number; est_rate: number; reason: string; gates?: string[]; exempt?: string; from: string; to: string;
}
export interface Measure { kind: string; ports?: { proto: number; port?: number }[]; kbit_s?: number }
export interface Action { kind: string; adapter: string; measure?: Measure; intent: string; done?: string; verified?: string; attempts: number; error?: string }
export interface Incident {
  id: string; tenant: string; holder: Holder; rules: string[]; tier: string; state: string; reason?: string; why?: Told; opened: string; updated: string;
  findings: Finding[]; action?: Action; restore?: Action; others?: Action[]; would?: string[]; refuse?: boolean; probation?: boolean; prior?: number; statement?: string;
}
export interface Event { seq: number; time: string; kind: string; actor: string; reason?: string }
export interface Evidence { frozen: string; from: string; to: string; rows: number; truncated: boolean; logs: { form: string; name: string; text: string }[] }
export interface Point { time: string; est_out_packets: number; est_in_packets: number; est_out_bytes: number; est_in_bytes: number; syn_out: number; attempts?: number }
export interface Host { ip: string; tenant: string; holder?: Holder; from: string; to: string; step_s: number; series: Point[]; incidents: Incident[] }
export interface Flow {
  time: string; remote: string; host: string; host_port: number; remote_port: number; svc_port: number; dir: string; ip_proto: number; role: string; class: string;
  packets: number; bytes: number; sampling_rate: number;
}
export interface PeerSum {
  remote?: string; ip_proto?: number; svc_port?: number; remotes?: number; records: number; est_out_packets: number; est_in_packets: number; est_out_bytes: number; est_in_bytes: number; not_established: number;
}
export interface Peers { total_ports: number; total_peers: number; ports: PeerSum[]; peers: PeerSum[] }
export interface TopRow { tenant: string; est_out_packets: number; est_in_packets: number; est_out_bytes: number; est_in_bytes: number; syn_out: number; holder?: Holder; incidents: string[] }
export interface Traffic { from: string; to: string; step_s: number; series: Point[] }
export interface Source { name: string; entries: number; seen?: string; stale: boolean; problem?: string; error?: string }
export interface Spread { p50: number; p99: number; max: number }
export interface Exporter {
  exporter: string; protocols: string[]; last_seen: string; records: number; lost: number; dropped: Record<string, number>; duplicates: number; restarts: number;
  samplers: { rate: number; source: string }[]; problems: string[]; problems_why?: Told[]; clock_offset_s?: number; export_delay_s?: Spread; flow_duration_s?: Spread; templates_known: number;
}
export interface Freeze { rule?: string; since: string; tenants: number; incident: string }
export interface AuditEntry {
  seq: number; time: string; actor: string; kind: string; reason?: string; text?: string; why?: Told; incident: string; tenant?: string; customer?: string; vds?: string;
  adapter?: string; measure?: string; outcome?: string; error?: string;
}
export interface Note { code: string; en: string; ru: string }
export interface ComplaintLine {
  line: number; raw: string; time?: string; verdict: string; text: string; text_ru: string; host?: string; remote?: string; notes: Note[]; traffic?: { resolution?: string };
}
export interface Complaint {
  subject?: string; from?: string; counts: Record<string, number>; lines: ComplaintLine[]; unread: { line: number; raw: string; detail: string }[]; unread_count: number;
  skew?: { name: string; significant: boolean; text: string; text_ru: string };
  opened?: { id: string; joined: boolean }[];
  cases: { host: string; holder?: Holder; shared: boolean; first: string; last: string; lines: number; counts: Record<string, number>; incident?: { id: string; state: string }; notes: Note[] }[];
  notes: string[]; draft: { subject: string; en: string; ru: string };
}
export interface Page { totalCount: number; limit: number; offset: number }
export interface Me { name: string; role: string; time: string; expires?: string; csrf?: string }

export interface Precision { rule: string; tier: string; cases: number; right: number; wrong: number; unmarked: number; precision: number; low: number; high: number }
export interface Proposal {
  rule: string; tier: string; key: string; now: number; proposed: number; cases: number; right: number; wrong: number; missed_right: number; missed_unmarked: number;
  wrong_tenants: string[]; advice: string; why?: Told;
}
export interface Case { id: string; day: string; tenant: string; rule: string; tier: string; findings: number; first: string; last: string; best: Finding; mark?: { verdict: string; by: string; reason: string; time: string } }
export interface Policy {
  address: string; holder?: string; tags?: string[]; overrides?: string[];
  rules: { rule: string; mode: string; mode_from: string; version: number; held?: string[]; needs?: string[]; values: { key: string; value: string; from: string }[] }[];
  exporters?: { exporter: string; rate: number; floors: { rule: string; what: string; unit: string; tier: string; notify: number[] | null; act: number[] | null }[] }[];
}
export interface Exemption {
  id: string; source: string; version: number; status: string; tenant?: string; customer?: string; remote?: string; remote_as?: number; port?: number; ip_proto?: number; rule?: string;
  owner: string; reason: string; expires?: string; created?: string; created_by?: string; hits?: { findings: number; tenant_days: number; last?: string }; warning?: string;
}
export interface Tenant {
  customer: string; holdings: (Holder & { from?: string; to?: string })[]; standing: { vds?: string; offences: number; probation: boolean }[]; incidents: Incident[];
  exemptions: Exemption[]; complaints: ComplaintCase[];
}
export interface Read { time: string; last: string; actor: string; role: string; operation: string; target: string; count: number }
export interface Hit { type: string; id: string; title: string; text?: string; href?: string; time?: string }
export interface ComplaintCase {
  id: string; status: string; opened: string; updated: string; reporter?: string; subject?: string; tenant?: string; customer?: string; vds?: string; verdicts: Record<string, number>;
  host: string; first: string; last: string; incident?: string; mails: number; by: string; history?: { time: string; actor: string; kind: string; note?: string }[];
  reply?: { subject: string; en: string; ru: string }; received?: { time: string; reporter?: string; subject?: string; lines: number; verdicts: Record<string, number> }[];
}

const KEY = 'flowcordon-token';

export class Problem extends Error {
  constructor(readonly status: number, detail: string, readonly code?: string, readonly values?: string[]) { super(detail); }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (t: string) => sessionStorage.setItem(KEY, t),
  forget: () => sessionStorage.removeItem(KEY),
};

// A session is a cookie that scripts cannot read; csrf goes with what changes
// something. Without a token and with csrf, somebody signed in.
let csrf = '';
export const session = {
  enter: (c: string) => { csrf = c; },
  forget: () => { csrf = ''; },
  is: () => csrf !== '',
};
export const known = () => token.get() !== null || session.is();

export const authorization = (): Record<string, string> => token.get() !== null ? { Authorization: 'Bearer ' + token.get() } : csrf ? { 'X-CSRF-Token': csrf } : {};

export interface Methods { oidc?: string; session: boolean }
// methods: how one may sign in, and whether the cookie of a session is there.
export async function methods(): Promise<Methods> {
  try {
    const res = await fetch('/auth/methods', { headers: { Accept: 'application/json' }, cache: 'no-store' });
    return res.ok ? await res.json() as Methods : { session: false };
  } catch { return { session: false }; }
}

// signInAt is the way to the provider, and back to this page.
export const signInAt = () => location.hash.startsWith('#/?refused=') ? '/auth/login?again=1' : '/auth/login?to=' + encodeURIComponent(location.hash || '#/');

export async function signOut(): Promise<void> {
  const res = await fetch('/auth/logout', { method: 'POST', headers: authorization() }).catch(() => undefined);
  session.forget();
  const { next } = res?.ok ? await res.json() as { next?: string } : {};
  if (next) location.assign(next);
}

async function send(path: string, init: RequestInit): Promise<Response> {
  let res: Response;
  try {
    res = await fetch('/api/v1' + path, { ...init, headers: { ...authorization(), Accept: 'application/json', ...init.headers } });
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e;
    throw new Problem(0, 'offline');
  }
  if (res.ok || res.status === 304) return res;
  const body = await res.json().catch(() => ({})) as { detail?: string; code?: string; values?: string[] };
  throw new Problem(res.status, body.detail ?? 'HTTP ' + res.status, body.code, body.values);
}

// What was answered last with a tag, so that asking again costs the service
// nothing while nothing has changed. The latest few: a page asks for three or four.
const answers = new Map<string, { tag: string; data: unknown }>();
const MOST = 30;
export const forgetAnswers = () => answers.clear();

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const last = answers.get(path);
  const res = await send(path, { signal, headers: last ? { 'If-None-Match': last.tag } : {} });
  const tag = res.headers.get('ETag');
  if (res.status === 304 && last) {
    if (tag) last.tag = tag;
    return last.data as T;
  }
  const data = await res.json() as T;
  answers.delete(path);
  if (tag) answers.set(path, { tag, data });
  if (answers.size > MOST) answers.delete(answers.keys().next().value!);
  return data;
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return await (await send(path, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } })).json() as T;
}

export async function postText<T>(path: string, type: string, body: string): Promise<T> {
  return await (await send(path, { method: 'POST', body, headers: { 'Content-Type': type } })).json() as T;
}

// remove ends what still is of the version that was shown.
export async function remove(path: string, version: number): Promise<void> {
  await send(path, { method: 'DELETE', headers: { 'If-Match': `"${version}"` } });
}

// save gives the answer to the user as a file: a plain link could not carry the token.
export async function save(path: string, accept: string, name: string): Promise<void> {
  const url = URL.createObjectURL(await (await send(path, { headers: { Accept: accept } })).blob());
  const a = document.createElement('a');
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
