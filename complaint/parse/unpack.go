package parse

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"path"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// limited reads what is left of the complaint's budget; cut: there was more.
func (r *reader) limited(in io.Reader) (data []byte, cut bool) {
	left := max(maxUnpacked-r.unpacked, 0)
	data, _ = io.ReadAll(io.LimitReader(in, int64(left)+1)) // a broken encoding ends the text early
	if len(data) > left {
		data, cut = data[:left], true
	}
	r.unpacked += len(data)
	return data, cut
}

// unpack makes pieces of an attachment: packed ones are unpacked, what is no
// text is named.
func (r *reader) unpack(name, typ string, data []byte, q piece) {
	q.name, q.typ = name, typ
	switch {
	case q.depth > maxDepth:
		r.skipped(name, typ, "not read: nested too deep")
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r.gunzip(name, typ, data, q)
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		r.unzip(name, typ, data, q)
	case strings.HasPrefix(typ, "image/"), strings.HasPrefix(typ, "audio/"), strings.HasPrefix(typ, "video/"),
		typ == "application/pgp-signature", typ == "application/pkcs7-signature", typ == "application/pdf":
		r.skipped(name, typ, "not read: no text")
	case !isText(data):
		r.skipped(name, typ, "not read: no text; send it as text, CSV, gzip or zip")
	case typ == "text/html":
		q.text = htmlText(data)
		r.add(q)
	default:
		q.text = decodeText(data)
		r.add(q)
	}
}

func (r *reader) gunzip(name, typ string, data []byte, q piece) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		r.skipped(name, typ, "not read: broken gzip")
		return
	}
	out, cut := r.limited(z)
	if cut {
		r.note("an archive holds more than what is read of one complaint; the rest was left out")
	}
	q.log, q.depth = true, q.depth+1
	r.unpack(strings.TrimSuffix(name, ".gz"), "text/plain", out, q)
}

func (r *reader) unzip(name, typ string, data []byte, q piece) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		r.skipped(name, typ, "not read: broken zip")
		return
	}
	q.log, q.depth = true, q.depth+1
	for i, f := range z.File {
		if i == maxFiles {
			r.skipped(name, typ, "the archive has more files than are read")
			return
		}
		label := name + "/" + clip(path.Base(f.Name), 80)
		if f.FileInfo().IsDir() {
			continue
		}
		in, err := f.Open()
		if err != nil {
			r.skipped(label, typ, "not read: packed in a way that is not known, or with a password")
			continue
		}
		out, cut := r.limited(in)
		_ = in.Close() // read only
		if cut {
			r.note("an archive holds more than what is read of one complaint; the rest was left out")
		}
		r.unpack(label, "text/plain", out, q)
	}
}

// isText reports whether data can be a text: no zero bytes, few control bytes,
// or a mark that says UTF-16.
func isText(data []byte) bool {
	if len(data) > 1 && (data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
		return true
	}
	odd := 0
	head := data[:min(len(data), 4096)]
	for _, c := range head {
		if c == 0 {
			return false
		}
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != 0x1b && c != '\f' {
			odd++
		}
	}
	return odd*20 <= len(head)
}

// decodeText is the text of data as UTF-8.
func decodeText(data []byte) string {
	if len(data) > 1 && (data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
		u := make([]uint16, 0, len(data)/2)
		big := data[0] == 0xfe
		for i := 2; i+1 < len(data); i += 2 {
			if big {
				u = append(u, uint16(data[i])<<8|uint16(data[i+1]))
			} else {
				u = append(u, uint16(data[i+1])<<8|uint16(data[i]))
			}
		}
		return string(utf16.Decode(u))
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if utf8.Valid(data) {
		return string(data)
	}
	return strings.ToValidUTF8(string(data), "?")
}

// htmlText is what a reader of the page sees, a line for each block and row.
func htmlText(data []byte) string {
	var b strings.Builder
	z := html.NewTokenizer(bytes.NewReader(data))
	hidden := ""
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if hidden == "" {
				b.WriteString(strings.ReplaceAll(strings.ReplaceAll(string(z.Text()), "\u00a0", " "), "\r", ""))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			switch n, _ := z.TagName(); string(n) {
			case "br", "p", "div", "tr", "li", "pre", "h1", "h2", "h3", "table":
				b.WriteByte('\n')
			case "td", "th":
				b.WriteByte(' ')
			case "script", "style", "head", "title":
				hidden = string(n)
			}
		case html.EndTagToken:
			n, _ := z.TagName()
			if string(n) == hidden {
				hidden = ""
			}
			switch string(n) {
			case "p", "div", "tr", "li", "pre", "h1", "h2", "h3", "table":
				b.WriteByte('\n')
			}
		}
	}
}
