import { get } from '../api';
import type { Hit } from '../api';
import { stamp } from '../format';
import { fill, named, w } from '../i18n';
import { useLive } from '../live';
import { useQuery } from '../route';
import { Empty, Failed, Section, Table } from '../ui';

const PAGES: Record<string, (id: string) => string> = {
  host: id => '#/hosts/' + id, incident: id => '#/incidents/' + id, complaint: id => '#/complaints/' + id, exemption: id => '#/exemptions?id=' + id,
  tenant: id => '#/search?q=' + id, vds: id => '#/search?q=' + id, remote: id => '#/search?q=' + id,
};

// linkOf leads to the page of a hit; a customer's hits are incidents and hosts of
// theirs, which the API names in href.
function linkOf(h: Hit): string {
  const host = /\/hosts\/([^/?]+)/.exec(h.href ?? '');
  if (host && h.type !== 'incident') return '#/hosts/' + host[1];
  return (PAGES[h.type] ?? PAGES.tenant)(encodeURIComponent(h.id));
}

export function Search() {
  const q = useQuery('q');
  const got = useLive(s => get<{ kind: string; hits: Hit[] }>('/search?limit=50&q=' + encodeURIComponent(q), s), [q], { every: 0 });
  return <>
    <h1 tabIndex={-1}>{fill(w.searchTitle, q)}</h1>
    <Section title={got.data ? fill(w.hits, got.data.hits.length) : w.search} busy={got.old}>
      <Failed error={got.error} />
      {got.data ? <Table caption={w.search} rows={got.data.hits} empty={w.noHits} keyOf={h => h.type + h.id} columns={[
        { head: w.kindOf, cell: h => <span class="badge">{named(w.hitTypes, h.type)}</span> },
        { head: w.what, cell: h => <a href={linkOf(h)}>{h.title || h.id}</a> },
        { head: w.why, cell: h => h.text ?? '' },
        { head: w.time, cell: h => stamp(h.time) },
      ]} /> : <Empty>{got.error ? '' : w.loading}</Empty>}
    </Section>
  </>;
}
