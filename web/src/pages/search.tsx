import { get } from '../api';
import type { Hit } from '../api';
import { stamp } from '../format';
import { fill, named, w } from '../i18n';
import { useLive } from '../live';
import { useQuery } from '../route';
import { Empty, Failed, Section, Table } from '../ui';

const PAGES: Record<string, string> = { host: '/hosts/', incident: '/incidents/', complaint: '/complaints/', tenant: '/tenants/', exemption: '/exemptions?status=all&id=' };

// linkOf leads to the page of a hit. A server is shown by its address, a remote
// by the tenant that it was seen with: href names both.
function linkOf(h: Hit): string {
  const href = new URL(h.href ?? '', location.origin), host = /\/hosts\/([^/]+)$/.exec(href.pathname)?.[1];
  if (h.type === 'vds' && host) return '#/hosts/' + host;
  const tenant = href.searchParams.get('tenant');
  if (h.type === 'remote' && tenant) return `#/hosts/${encodeURIComponent(tenant)}?tab=flows&remote=${encodeURIComponent(h.id)}`;
  return PAGES[h.type] ? '#' + PAGES[h.type] + encodeURIComponent(h.id) : '#/search?q=' + encodeURIComponent(h.id);
}

export function Search() {
  const q = useQuery('q');
  const got = useLive(s => get<{ kind: string; hits: Hit[] }>('/search?limit=50&q=' + encodeURIComponent(q), s), [q], { every: 0 });
  return <>
    <h1 tabIndex={-1}>{fill(w.searchTitle, q)}</h1>
    <Section title={got.data ? fill(w.hits, got.data.hits.length) : w.search} busy={got.old}>
      <Failed error={got.error} />
      {got.data ? <Table caption={w.search} rows={got.data.hits} empty={w.noHits} keyOf={(h, i) => h.type + h.id + i} columns={[
        { head: w.kindOf, cell: h => <span class="badge">{named(w.hitTypes, h.type)}</span> },
        { head: w.what, cell: h => <a href={linkOf(h)}>{h.title || h.id}</a> },
        { head: w.why, cell: h => h.text ?? '' },
        { head: w.time, cell: h => <span class="when">{stamp(h.time)}</span> },
      ]} /> : <Empty>{got.error ? '' : w.loading}</Empty>}
    </Section>
  </>;
}
