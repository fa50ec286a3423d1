package e2e

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
)

var hidden = regexp.MustCompile(`name="form" value="([^"]+)"`)

// formOf is what a browser sends when a page's form is filled in; "" without one.
func formOf(page string) string {
	m := hidden.FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return url.Values{
		"form": {m[1]}, "happened": {"Взломали сайт через старый плагин."}, "fixed": {"Переустановил систему из резервной копии."},
		"changed": {"Обновления ставятся сами, вход только по ключу."},
	}.Encode()
}

// browse makes one request from the outside with a browser's headers, follows
// where it is sent and gives the page.
func (c *customer) browse(method, address, form string) (status int, page string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Accept-Language", "ru-RU,ru;q=0.9,en;q=0.8")
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "http://"+lab.MgmtIP+":8080")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	b := http.Client{Transport: c.s.http.Transport}
	resp, err := b.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
