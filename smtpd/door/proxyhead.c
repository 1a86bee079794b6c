/* proxyhead - smtpd's room: the PROXY header. See proxyhead.h; "section" is one of HAProxy's doc/proxy-protocol.txt. */
#include "proxyhead.h"

#include <netinet/in.h>
#include <string.h>

#define V1_MAX 107u              /* section 2.1, with CRLF */
#define V2_FIXED 16u             /* signature, version and command, family, length */

static const char v1_begin[] = "PROXY ";
static const char v2_begin[] = "\r\n\r\n\0\r\nQUIT\n";

/* Does it begin so, as far as it has come? */
static bool may_begin(struct bytes in, struct bytes with)
{
	size_t n = in.len < with.len ? in.len : with.len;
	return bytes_equal(bytes_slice(in, 0, n), bytes_slice(with, 0, n));
}

/* As the kernel would have given it: a v4-mapped address is AF_INET. */
static void announce(struct proxyhead *head, const struct netaddr *a)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(a, &sa);
	head->announced = netaddr_from_sockaddr((const struct sockaddr *)&sa, len, &head->client);
}

/* ---- version 1, section 2.1 */

static bool parse_port(struct bytes text, uint16_t *port_r)
{
	uint64_t n;
	if (text.len == 0 || (text.len > 1 && text.at[0] == '0') || !bytes_to_u64(text, UINT16_MAX, &n))
		return false;
	*port_r = (uint16_t)n;
	return true;
}

/* "TCP4 SOURCE DESTINATION PORT PORT" */
static bool parse_v1_line(struct bytes line, struct proxyhead *head)
{
	struct bytes rest = line, family = bytes_cut(&rest, ' '), source = bytes_cut(&rest, ' '), target = bytes_cut(&rest, ' ');
	struct bytes source_port = bytes_cut(&rest, ' ');
	struct netaddr from, to;
	int wanted = bytes_equal(family, LIT("TCP4")) ? AF_INET : bytes_equal(family, LIT("TCP6")) ? AF_INET6 : 0;
	if (bytes_equal(family, LIT("UNKNOWN")))
		return true;
	if (wanted == 0 || !netaddr_parse(source, &from) || !netaddr_parse(target, &to) || from.family != wanted || to.family != wanted
		|| !parse_port(source_port, &from.port) || !parse_port(rest, &to.port))
		return false;
	announce(head, &from);
	return true;
}

static enum proxyhead_result parse_v1(struct bytes in, struct proxyhead *head)
{
	struct bytes start = bytes_slice(in, 0, V1_MAX);
	size_t lf = bytes_find(start, '\n'), begin = sizeof v1_begin - 1;
	if (lf == start.len)
		return start.len < V1_MAX ? PROXYHEAD_MORE : PROXYHEAD_BAD;
	if (lf <= begin || start.at[lf - 1] != '\r' || !parse_v1_line(bytes_slice(start, begin, lf - 1), head))
		return PROXYHEAD_BAD;
	head->size = lf + 1;
	return PROXYHEAD_DONE;
}

/* ---- version 2, section 2.2 */

static unsigned octet(struct bytes in, size_t i)
{
	return (unsigned char)in.at[i];
}

/* Source address, destination address, source port, destination port. */
static bool parse_v2_addresses(struct bytes in, int family, size_t width, struct proxyhead *head)
{
	struct netaddr a = { .family = family };
	if (in.len < 2 * width + 4)
		return false;
	memcpy(a.octets, in.at, width);
	a.port = (uint16_t)(octet(in, 2 * width) << 8 | octet(in, 2 * width + 1));
	announce(head, &a);
	return true;
}

static bool parse_v2_body(struct bytes body, unsigned command, unsigned family, struct proxyhead *head)
{
	enum { LOCAL = 0x20, PROXY = 0x21, UNSPEC = 0x00, TCP4 = 0x11, TCP6 = 0x21, UNIX = 0x31 };
	if (command == LOCAL)
		return true;
	if (command != PROXY)
		return false;
	switch (family) {
	case UNSPEC:
		return true;
	case UNIX:
		return body.len >= 216;
	case TCP4:
		return parse_v2_addresses(body, AF_INET, 4, head);
	case TCP6:
		return parse_v2_addresses(body, AF_INET6, 16, head);
	default:
		return false;
	}
}

static enum proxyhead_result parse_v2(struct bytes in, struct proxyhead *head)
{
	if (in.len < V2_FIXED)
		return PROXYHEAD_MORE;
	size_t size = V2_FIXED + (octet(in, 14) << 8 | octet(in, 15));
	if (size > PROXYHEAD_MAX)
		return PROXYHEAD_BAD;
	if (in.len < size)
		return PROXYHEAD_MORE;
	if (!parse_v2_body(bytes_slice(in, V2_FIXED, size), octet(in, 12), octet(in, 13), head))
		return PROXYHEAD_BAD;
	head->size = size;
	return PROXYHEAD_DONE;
}

enum proxyhead_result proxyhead_parse(struct bytes in, struct proxyhead *head_r)
{
	*head_r = (struct proxyhead){ 0 };
	struct bytes v1 = { v1_begin, sizeof v1_begin - 1 }, v2 = { v2_begin, sizeof v2_begin - 1 };
	if (in.len == 0)
		return PROXYHEAD_MORE;
	if (may_begin(in, v1))
		return parse_v1(in, head_r);
	return may_begin(in, v2) ? parse_v2(in, head_r) : PROXYHEAD_BAD;
}
