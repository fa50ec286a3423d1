package store

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// column describes one column of a table whose rows are of type T: how it goes
// into the spool, comes back, and goes to ClickHouse. One description serves
// all three, so they cannot drift apart.
type column[T any] struct {
	name string
	put  func(buf []byte, rows []T) []byte
	get  func(d *decoder, rows []T)
	send func(c driver.BatchColumn, rows []T) error
}

type unsigned interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64
}

// uintCol is a column UInt8 to UInt64, W being the type on the wire. The spool
// holds variable-length integers: most counters are small.
func uintCol[W uint8 | uint16 | uint32 | uint64, T any, V unsigned](name string, field func(*T) *V) column[T] {
	return column[T]{
		name: name,
		put: func(buf []byte, rows []T) []byte {
			for i := range rows {
				buf = binary.AppendUvarint(buf, uint64(*field(&rows[i])))
			}
			return buf
		},
		get: func(d *decoder, rows []T) {
			for i := range rows {
				*field(&rows[i]) = V(d.uvarint(uint64(^W(0))))
			}
		},
		send: func(c driver.BatchColumn, rows []T) error {
			v := make([]W, len(rows))
			for i := range rows {
				v[i] = W(*field(&rows[i]))
			}
			return c.Append(v)
		},
	}
}

// secondsCol is a DateTime column from seconds since the epoch.
func secondsCol[T any](name string, field func(*T) *int64) column[T] {
	return column[T]{
		name: name,
		put:  putInt64(field),
		get:  getInt64(field),
		send: func(c driver.BatchColumn, rows []T) error {
			v := make([]int64, len(rows))
			for i := range rows {
				v[i] = clampSeconds(*field(&rows[i]))
			}
			return c.Append(v)
		},
	}
}

// nanosCol is a DateTime64(9) column from nanoseconds since the epoch.
func nanosCol[T any](name string, field func(*T) *int64) column[T] {
	return column[T]{
		name: name,
		put:  putInt64(field),
		get:  getInt64(field),
		send: func(c driver.BatchColumn, rows []T) error {
			v := make([]time.Time, len(rows))
			for i := range rows {
				v[i] = time.Unix(0, clampNanos(*field(&rows[i])))
			}
			return c.Append(v)
		},
	}
}

func putInt64[T any](field func(*T) *int64) func([]byte, []T) []byte {
	return func(buf []byte, rows []T) []byte {
		for i := range rows {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(*field(&rows[i])))
		}
		return buf
	}
}

func getInt64[T any](field func(*T) *int64) func(*decoder, []T) {
	return func(d *decoder, rows []T) {
		for i := range rows {
			*field(&rows[i]) = int64(d.uint64())
		}
	}
}

// addrCol is an IPv6 column; v4 addresses are stored mapped. The invalid
// address becomes :: and comes back from the spool as invalid.
func addrCol[T any](name string, field func(*T) *netip.Addr) column[T] {
	return column[T]{
		name: name,
		put: func(buf []byte, rows []T) []byte {
			for i := range rows {
				b := field(&rows[i]).AsSlice()
				buf = append(append(buf, byte(len(b))), b...)
			}
			return buf
		},
		get: func(d *decoder, rows []T) {
			for i := range rows {
				*field(&rows[i]) = d.addr()
			}
		},
		send: func(c driver.BatchColumn, rows []T) error {
			v := make([]netip.Addr, len(rows))
			for i := range rows {
				v[i] = mapped(*field(&rows[i]))
			}
			return c.Append(v)
		},
	}
}

// boolCol is a Bool column.
func boolCol[T any](name string, field func(*T) *bool) column[T] {
	return column[T]{
		name: name,
		put: func(buf []byte, rows []T) []byte {
			for i := range rows {
				b := byte(0)
				if *field(&rows[i]) {
					b = 1
				}
				buf = append(buf, b)
			}
			return buf
		},
		get: func(d *decoder, rows []T) {
			for i := range rows {
				*field(&rows[i]) = d.uvarint(1) == 1
			}
		},
		send: func(c driver.BatchColumn, rows []T) error {
			v := make([]bool, len(rows))
			for i := range rows {
				v[i] = *field(&rows[i])
			}
			return c.Append(v)
		},
	}
}

// macCol is a UInt64 column that holds 48 bits, the first byte highest.
func macCol[T any](name string, field func(*T) *[6]byte) column[T] {
	return column[T]{
		name: name,
		put: func(buf []byte, rows []T) []byte {
			for i := range rows {
				buf = append(buf, field(&rows[i])[:]...)
			}
			return buf
		},
		get: func(d *decoder, rows []T) {
			for i := range rows {
				copy(field(&rows[i])[:], d.take(6))
			}
		},
		send: func(c driver.BatchColumn, rows []T) error {
			v := make([]uint64, len(rows))
			for i := range rows {
				m := field(&rows[i])
				v[i] = uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(binary.BigEndian.Uint32(m[2:]))
			}
			return c.Append(v)
		},
	}
}

// arrayCol is a column Array(UInt64) or Array(UInt16); the elements are hashes
// or ports, so they are spooled at full width.
func arrayCol[T any, E uint16 | uint64](name string, field func(*T) *[]E) column[T] {
	width := 2
	if uint64(^E(0)) > 0xffff {
		width = 8
	}
	return column[T]{
		name: name,
		put: func(buf []byte, rows []T) []byte {
			for i := range rows {
				l := *field(&rows[i])
				buf = binary.AppendUvarint(buf, uint64(len(l)))
				for _, e := range l {
					if width == 2 {
						buf = binary.LittleEndian.AppendUint16(buf, uint16(e))
					} else {
						buf = binary.LittleEndian.AppendUint64(buf, uint64(e))
					}
				}
			}
			return buf
		},
		get: func(d *decoder, rows []T) {
			for i := range rows {
				n := d.count(width)
				if n == 0 {
					continue
				}
				l := make([]E, n)
				for j := range l {
					if width == 2 {
						l[j] = E(binary.LittleEndian.Uint16(d.take(2)))
					} else {
						l[j] = E(d.uint64())
					}
				}
				*field(&rows[i]) = l
			}
		},
		send: func(c driver.BatchColumn, rows []T) error {
			for i := range rows {
				// By row: the driver's path for whole columns goes through
				// reflection for each array.
				if err := c.AppendRow(*field(&rows[i])); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// mapped is the form that addresses have in ClickHouse.
func mapped(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv6Unspecified()
	}
	return netip.AddrFrom16(a.As16())
}
