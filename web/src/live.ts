import { useEffect, useRef, useState } from 'preact/hooks';
import { Problem } from './api';
import { feedState, watchNews, watchState } from './feed';
import type { News } from './feed';

const EVERY = 3000;
const CALM = 30_000; // between questions whose answers the feed tells of
const GATHER = 250; // events that come together are one question
const LATE = 12_000; // without an answer so long the header says that what is shown is old
const DEAD = 60_000; // the service answers within 30 s, or it never will

export interface Live<T> {
  data?: T;
  error?: Problem;
  old?: boolean; // data is the answer to an earlier question
  refresh: () => void;
}
export interface Pace {
  every?: number; // ms; 0: ask once
  about?: (n: News) => boolean; // events upon which the answer changes
}

// useLive asks again and again while the page is seen: when an event says so, or
// every few seconds where no feed is. What was shown stays while the service is
// away; a wrong address is not asked again.
export function useLive<T>(ask: (signal: AbortSignal) => Promise<T>, on: unknown[], { every = EVERY, about }: Pace = {}): Live<T> {
  const [state, set] = useState<Omit<Live<T>, 'refresh'>>({});
  const again = useRef<() => void>(() => {});
  useEffect(() => {
    const ctl = new AbortController();
    let timer = 0, soon = 0, busy = false, more = false, stop = false;
    set(s => ({ data: s.data, old: s.data !== undefined }));
    const pause = () => every > 0 && about && feedState() === 'live' ? Math.max(every, CALM) : every;
    const run = async () => {
      clearTimeout(timer);
      more = busy;
      if (busy || ctl.signal.aborted) return;
      busy = true;
      if (!document.hidden) {
        const one = new AbortController(), end = () => one.abort(); // a service that hangs refuses nothing
        ctl.signal.addEventListener('abort', end);
        const late = window.setTimeout(() => told(new Problem(0, 'late')), LATE), dead = window.setTimeout(end, DEAD);
        try {
          const data = await ask(one.signal);
          if (!ctl.signal.aborted) { set({ data }); told(undefined); }
        } catch (e) {
          if (ctl.signal.aborted) return;
          const error = e instanceof Problem ? e : new Problem(0, String(e));
          stop = error.status === 404 || error.status === 422;
          set(s => ({ data: s.old ? undefined : s.data, error }));
          told(error);
        } finally {
          clearTimeout(late);
          clearTimeout(dead);
          ctl.signal.removeEventListener('abort', end);
        }
      }
      busy = false;
      if (more) void run(); else if (!stop && pause() > 0) timer = window.setTimeout(run, pause());
    };
    again.current = () => { stop = false; void run(); };
    const seen = () => { if (!document.hidden && every > 0 && !stop) void run(); };
    const off = watchNews(n => {
      if (!about || stop || !(n.name === 'hello' || about(n))) return;
      soon ||= window.setTimeout(() => { soon = 0; void run(); }, GATHER);
    });
    const offState = watchState(s => { if (s === 'polling' && about && !stop) void run(); });
    document.addEventListener('visibilitychange', seen);
    void run();
    return () => { ctl.abort(); clearTimeout(timer); clearTimeout(soon); off(); offState(); document.removeEventListener('visibilitychange', seen); };
  }, on);
  return { ...state, refresh: () => again.current() };
}

// What events change what.
export const aboutIncidents = (n: News) => n.name === 'incident' || n.name === 'freeze';
export const aboutIncident = (id: string) => (n: News) => n.name === 'incident' && n.data.incident === id;
export const aboutTenant = (ip: string) => (n: News) => n.name === 'incident' && n.data.tenant === ip;
export const aboutExporters = (n: News) => n.name === 'exporter';
export const aboutFreezes = (n: News) => n.name === 'freeze';

// listeners hear how the last question went: the header says so.
const listeners = new Set<(e?: Problem) => void>();
function told(e?: Problem) { listeners.forEach(f => f(e)); }
export function onAnswer(f: (e?: Problem) => void): () => void { listeners.add(f); return () => listeners.delete(f); }
