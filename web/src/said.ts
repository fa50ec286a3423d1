// What the service says in English, in the user's language. The API's texts are
// sentences with values in them, and incidents of two years ago keep theirs: so
// each sentence is known by its form. What is not known is shown as it came.
import table from './said.json';

interface Form { match: RegExp; to: string }
let forms: Form[] | undefined;

// {0} stands for any text, the shortest that fits; the rest is literal.
function compile(): Form[] {
  return (table as [string, string][]).map(([en, to]) => ({
    match: new RegExp('^' + en.replace(/[.*+?^$|()[\]\\]/g, '\\$&').replace(/\{\d\}/g, '(.*?)') + '$', 's'), to,
  }));
}

export function said(text: string, lang: string): string {
  if (lang !== 'ru' || !text) return text;
  forms ??= compile();
  for (const f of forms) {
    const m = f.match.exec(text);
    if (m) return f.to.replace(/\{(\d)\}/g, (_, i) => m[+i + 1] ?? '');
  }
  // A sentence may go on with a detail, which stays as it came.
  const colon = text.indexOf(': ');
  const head = colon > 0 ? text.slice(0, colon) : '';
  const known = head && said(head, lang);
  return known && known !== head ? known + text.slice(colon) : text;
}
