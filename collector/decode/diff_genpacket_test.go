package decode_test

// genPacket makes the first bytes of a packet, from the Ethernet header on or
// from the IP header on: mostly well formed, often cut, sometimes spoilt.
func genPacket(d *dice, ethernet bool) []byte {
	var p []byte
	if ethernet {
		p = genEthernet(d, 0)
	} else {
		p = genIP(d, 0)
	}
	switch d.n(8) {
	case 0, 1: // cut
		p = p[:d.n(len(p)+1)]
	case 2: // a byte of the first headers is something else
		p[d.n(min(len(p), 90))] = d.byte()
	case 3: // a header's padding
		p = append(p, make([]byte, d.n(20))...)
	}
	return p
}

func genEthernet(d *dice, depth int) []byte {
	head := d.bytes(12)
	for range d.n(7) - 2 { // up to 4 tags, once more than is read
		head = cat(head, be16(pick(d, 0x8100, 0x88a8, 0x9100, 0x9200)), be16(d.n(65536)))
	}
	switch d.n(12) {
	case 0:
		return cat(head, be16(pick(d, 0x0806, 0x88cc, 60, 0x8864, 0x6558, 0x22f3)), d.bytes(30))
	case 1, 2:
		return cat(head, be16(pick(d, 0x8847, 0x8848)), genMPLS(d, depth))
	case 3: // PPPoE
		return cat(head, be16(0x8864), []byte{pick[byte](d, 0x11, 0x11, 0x11, 0x21), pick[byte](d, 0, 0, 0, 9)}, d.bytes(4), genPPP(d, depth))
	case 4: // 802.3 with LLC and SNAP
		head = cat(head, be16(pick(d, 60, 1500, 1501, 0)), []byte{0xaa, 0xaa, pick[byte](d, 3, 3, 3, 2), 0, 0, pick[byte](d, 0, 0, 0, 1)})
	}
	ip := genIP(d, depth)
	typ := 0x0800
	if ip[0]>>4 == 6 {
		typ = 0x86dd
	}
	if d.one(30) {
		typ ^= 0x0800 ^ 0x86dd // says one, is the other
	}
	return cat(head, be16(typ), ip)
}

// genPPP is a PPP frame from its protocol on, HDLC bytes before it or not.
func genPPP(d *dice, depth int) []byte {
	var head []byte
	if d.one(3) {
		head = []byte{0xff, 3}
	}
	switch d.n(6) {
	case 0:
		return cat(head, be16(pick(d, 0x0281, 0x0283)), genMPLS(d, depth))
	case 1:
		return cat(head, be16(0xc021), d.bytes(8))
	case 2:
		return cat(head, []byte{0x21}, genIP(d, depth))
	}
	return cat(head, be16(pick(d, 0x0021, 0x0057)), genIP(d, depth))
}

func genMPLS(d *dice, depth int) []byte {
	labels := 1 + d.n(3)
	if d.one(10) {
		labels = 14 + d.n(4)
	}
	var p []byte
	for i := range labels {
		l := d.bytes(4)
		l[2] &^= 1
		if i == labels-1 && !d.one(10) {
			l[2] |= 1
		}
		p = cat(p, l)
	}
	switch d.n(6) {
	case 0: // a pseudowire with its control word
		return cat(p, make([]byte, 4), genEthernet(d, depth+1))
	case 1: // and without: the frame's first byte may look like IP's
		f := genEthernet(d, depth+1)
		f[0] = pick[byte](d, 0x00, 0x45, 0x60, 0x02)
		return cat(p, f)
	default:
		return cat(p, genIP(d, depth))
	}
}

func genIP(d *dice, depth int) []byte {
	proto, body := genTransport(d, depth)
	if d.one(2) {
		return genIP4(d, proto, body)
	}
	return genIP6(d, proto, body)
}

func genIP4(d *dice, proto int, body []byte) []byte {
	options := 0
	if d.one(5) {
		options = d.n(11)
	}
	frag := pick(d, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x2000|d.n(8192), d.n(8192))
	head := cat([]byte{byte(0x40 | 5 + options), d.byte()}, be16(20+4*options+len(body)), d.bytes(2), be16(frag),
		[]byte{d.byte(), byte(proto)}, d.bytes(2), d.bytes(8), d.bytes(4*options))
	if d.one(12) {
		copy(head[2:], be16(pick(d, 0, 1, 19, 20, 28, 65535))) // the length lies, or is 0 before segmentation
	}
	if d.one(25) {
		head[0] = byte(0x40 | d.n(5)) // no room for the header itself
	}
	if d.one(2) { // its checksum is right
		head[10], head[11] = 0, 0
		sum := 0
		for i := 0; i < len(head); i += 2 {
			sum += int(head[i])<<8 | int(head[i+1])
		}
		sum = sum>>16 + sum&0xffff
		sum = sum>>16 + sum&0xffff
		copy(head[10:], be16(0xffff-sum))
	}
	return cat(head, body)
}

func genIP6(d *dice, proto int, body []byte) []byte {
	var chain []byte
	next := proto
	for range d.n(14) - 10 + 10*d.n(2)/9 { // mostly none, few, seldom more than are read
		switch d.n(5) {
		case 0: // fragment
			off := pick(d, 0, 0, 1, d.n(65536))
			chain = cat([]byte{byte(next), d.byte()}, be16(off), d.bytes(4), chain)
			next = 44
		case 1: // authentication: its length counts 4-byte words less 2
			n := 1 + d.n(4)
			chain = cat([]byte{byte(next), byte(n)}, d.bytes(4*(n+2)-2), chain)
			next = 51
		default:
			n := d.n(3)
			chain = cat([]byte{byte(next), byte(n)}, d.bytes(8*(n+1)-2), chain)
			next = pick(d, 0, 43, 60, 135, 139, 140)
		}
	}
	if d.one(40) && len(chain) > 1 {
		chain[1] = 255 // leads behind the end
	}
	length := len(chain) + len(body)
	if d.one(12) {
		length = pick(d, 0, 1, 65535)
	}
	addrs := d.bytes(32)
	if d.one(10) { // mapped
		copy(addrs, cat(make([]byte, 10), []byte{0xff, 0xff}))
	}
	return cat([]byte{0x60 | d.byte()&15}, d.bytes(3), be16(length), []byte{byte(next), d.byte()}, addrs, chain, body)
}

func genTransport(d *dice, depth int) (int, []byte) {
	if depth < 7 && d.one(4) {
		return genTunnel(d, depth+1)
	}
	switch d.n(8) {
	case 0:
		return pick(d, 1, 58), d.bytes(d.n(12))
	case 1, 2, 3:
		return 6, cat(d.bytes(12), []byte{0x50}, d.bytes(7+d.n(8)))
	case 4, 5:
		return 17, cat(d.bytes(4), be16(8+16), d.bytes(2+16))
	case 6:
		return pick(d, 33, 132, 136), d.bytes(d.n(20))
	default:
		return pick(d, 2, 50, 59, 89, 255, 41, 4, 47), d.bytes(d.n(20))
	}
}

func genTunnel(d *dice, depth int) (int, []byte) {
	switch d.n(6) {
	case 3: // Geneve
		opt := 4 * d.n(4)
		inner, typ := genEthernet(d, depth), 0x6558
		if d.one(3) {
			inner, typ = genIP(d, depth), 0x0800
		}
		return 17, cat(d.bytes(2), be16(6081), be16(0), d.bytes(2), []byte{byte(opt/4 | d.n(16)/15<<6), 0}, be16(typ), d.bytes(4+opt), inner)
	case 4:
		return 137, genMPLS(d, depth)
	case 0: // IP in IP
		ip := genIP(d, depth)
		if ip[0]>>4 == 6 {
			return 41, ip
		}
		return 4, ip
	case 1: // VXLAN
		return 17, cat(d.bytes(2), be16(4789), be16(0), d.bytes(2), []byte{pick[byte](d, 8, 8, 8, 0, 0xff)}, d.bytes(7), genEthernet(d, depth))
	default:
		return 47, genGRE(d, depth)
	}
}

func genGRE(d *dice, depth int) []byte {
	flags := pick(d, 0, 0, 0x20, 0x80, 0x10, 0xb0, 0x40, 0xc0, int(d.byte()))
	version := pick(d, 0, 0, 0, 0, 1, 7)
	var opt []byte
	for _, bit := range []int{0xc0, 0x20, 0x10} {
		if flags&bit != 0 {
			opt = cat(opt, d.bytes(4))
		}
	}
	if flags&0x40 != 0 {
		opt = cat(opt, be16(2), []byte{0, 4}, d.bytes(4), make([]byte, 4)) // one source route entry and the end
	}
	var inner []byte
	typ := 0x6558
	if d.one(3) {
		inner = genEthernet(d, depth)
	} else {
		inner = genIP(d, depth)
		typ = 0x0800
		if inner[0]>>4 == 6 {
			typ = 0x86dd
		}
	}
	if d.one(10) {
		typ = pick(d, 0x880b, 0x88be, 0x8847)
	}
	return cat([]byte{byte(flags), byte(version)}, be16(typ), opt, inner)
}
