import { useEffect, useState } from 'preact/hooks';

// The address is #/page/argument?key=value: a link to what a colleague shall see.
export interface Route { page: string; arg: string; query: URLSearchParams }

export function read(): Route {
  const [path, query] = location.hash.slice(1).split('?');
  const [, page = '', arg = ''] = path.split('/');
  let name = '';
  try { name = decodeURIComponent(arg); } catch { /* a broken link shows the list */ }
  return { page, arg: name, query: new URLSearchParams(query ?? '') };
}

export function useRoute(): Route {
  const [r, set] = useState(read);
  useEffect(() => {
    const f = () => set(read());
    addEventListener('hashchange', f);
    return () => removeEventListener('hashchange', f);
  }, []);
  return r;
}

export const useQuery = (key: string): string => useRoute().query.get(key) ?? '';

// go changes the address; keys without a value are left out.
export function go(path: string, query: Record<string, string> = {}) {
  const q = new URLSearchParams(read().query);
  if (location.hash.slice(1).split('?')[0] !== path) [...q.keys()].forEach(k => q.delete(k));
  for (const [k, v] of Object.entries(query)) if (v) q.set(k, v); else q.delete(k);
  const s = q.toString();
  location.hash = '#' + path + (s ? '?' + s : '');
}
