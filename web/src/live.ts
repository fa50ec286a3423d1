import { useEffect, useRef, useState } from 'preact/hooks';
import { Problem } from './api';

const EVERY = 3000;

export interface Live<T> { data?: T; error?: Problem; refresh: () => void }

// useLive asks again and again while the page is seen. What was shown stays
// while the service is away; a wrong address is not asked again.
export function useLive<T>(ask: (signal: AbortSignal) => Promise<T>, on: unknown[], every = EVERY): Live<T> {
  const [state, set] = useState<{ data?: T; error?: Problem }>({});
  const again = useRef<() => void>(() => {});
  useEffect(() => {
    const ctl = new AbortController();
    let timer = 0, busy = false;
    set({});
    const run = async () => {
      clearTimeout(timer);
      if (busy) return;
      busy = true;
      let stop = false;
      if (!document.hidden) {
        try {
          const data = await ask(ctl.signal);
          if (!ctl.signal.aborted) { set({ data }); told(undefined); }
        } catch (e) {
          if (ctl.signal.aborted) return;
          const error = e instanceof Problem ? e : new Problem(0, String(e));
          stop = error.status === 404 || error.status === 422;
          set(s => ({ data: s.data, error }));
          told(error);
        }
      }
      busy = false;
      if (!stop && every > 0) timer = window.setTimeout(run, every);
    };
    again.current = run;
    const seen = () => { if (!document.hidden) void run(); };
    document.addEventListener('visibilitychange', seen);
    void run();
    return () => { ctl.abort(); clearTimeout(timer); document.removeEventListener('visibilitychange', seen); };
  }, on);
  return { ...state, refresh: () => again.current() };
}

// listeners hear how the last question went: the header says so.
const listeners = new Set<(e?: Problem) => void>();
function told(e?: Problem) { listeners.forEach(f => f(e)); }
export function onAnswer(f: (e?: Problem) => void): () => void { listeners.add(f); return () => listeners.delete(f); }
