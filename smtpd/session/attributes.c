/* attributes - smtpd's room: what XCLIENT and XFORWARD say. See attributes.h. */
#include "attributes.h"

#include "common/domain.h"
#include "common/xtext.h"

#include <netinet/in.h>
#include <string.h>

static bool is_name(struct bytes value)
{
	return domain_valid(value, true);
}

/* "192.0.2.1", "IPV6:2001:db8::1"; the tag is left out by some. */
static bool parse_address(struct bytes value, struct netaddr *addr_r)
{
	static const char tag[] = "IPV6:";
	bool tagged = bytes_starts_nocase(value, LIT(tag));
	if (tagged)
		value = bytes_slice(value, sizeof tag - 1, value.len);
	return netaddr_parse(value, addr_r) && (!tagged || addr_r->family == AF_INET6);
}

static bool is_address(struct bytes value)
{
	struct netaddr ignored;
	return parse_address(value, &ignored);
}

static bool is_port(struct bytes value)
{
	uint64_t port;
	return bytes_to_u64(value, UINT16_MAX, &port);
}

static bool is_protocol(struct bytes value)
{
	return bytes_equal_nocase(value, LIT("SMTP")) || bytes_equal_nocase(value, LIT("ESMTP"));
}

static bool is_source(struct bytes value)
{
	return bytes_equal_nocase(value, LIT("LOCAL")) || bytes_equal_nocase(value, LIT("REMOTE"));
}

static const struct attribute_row {
	const char *name, *fault;
	bool (*check)(struct bytes value);             /* NULL: any text */
} rows[ATTRIBUTES] = {
	[ATTR_NAME]     = { "NAME",     "NAME is a host name",                          is_name },
	[ATTR_ADDR]     = { "ADDR",     "ADDR is an IPv4 address, or IPV6:address",     is_address },
	[ATTR_PORT]     = { "PORT",     "PORT is a number up to 65535",                 is_port },
	[ATTR_PROTO]    = { "PROTO",    "PROTO is SMTP or ESMTP",                       is_protocol },
	[ATTR_HELO]     = { "HELO",     NULL,                                           NULL },
	[ATTR_LOGIN]    = { "LOGIN",    NULL,                                           NULL },
	[ATTR_DESTADDR] = { "DESTADDR", "DESTADDR is an IPv4 address, or IPV6:address", is_address },
	[ATTR_DESTPORT] = { "DESTPORT", "DESTPORT is a number up to 65535",             is_port },
	[ATTR_IDENT]    = { "IDENT",    NULL,                                           NULL },
	[ATTR_SOURCE]   = { "SOURCE",   "SOURCE is LOCAL or REMOTE",                    is_source },
};

const char *attribute_name(enum attribute a)
{
	return rows[a].name;
}

static size_t find(struct bytes name, unsigned allowed)
{
	size_t i = 0;
	while (i < ATTRIBUTES && !((allowed & ATTR_BIT(i)) && bytes_equal_nocase(name, bytes_of(rows[i].name))))
		i++;
	return i;
}

/* Behind it no octet is left that could end a line of a log or a field of an envelope, whatever form it came in. */
static bool decode(struct bytes value, char out[ATTRIBUTE_MAX + 1])
{
	size_t n = 0;
	while (value.len > 0) {
		unsigned char c;
		size_t used = xtext_char(value, &c);
		if (used == 0 || n == ATTRIBUTE_MAX)
			return false;
		out[n++] = (char)c;
		value = bytes_slice(value, used, value.len);
	}
	out[n] = '\0';
	return n > 0 && bytes_is_utf8_text((struct bytes){ out, n });
}

static const char *take_one(struct bytes word, unsigned allowed, struct attributes *a)
{
	struct bytes value = word, name = bytes_cut(&value, '=');
	size_t i = find(name, allowed);
	if (i == ATTRIBUTES)
		return "Unknown attribute";
	char *text = a->text[i];
	a->given |= ATTR_BIT(i);
	if (!decode(value, text))
		return "A value is xtext of 1 to 255 characters";
	if (bytes_equal_nocase(bytes_of(text), LIT("[UNAVAILABLE]")) || bytes_equal_nocase(bytes_of(text), LIT("[TEMPUNAVAIL]")))
		text[0] = '\0';
	else if (rows[i].check != NULL && !rows[i].check(bytes_of(text)))
		return rows[i].fault;
	return NULL;
}

const char *attributes_parse(struct bytes argument, unsigned allowed, struct attributes *a)
{
	uint64_t port = 0;
	if (bytes_trim(argument).len == 0)
		return "An attribute is NAME=value";
	while (argument.len > 0) {
		struct bytes word = bytes_cut(&argument, ' ');
		const char *fault = word.len > 0 ? take_one(word, allowed, a) : NULL;
		if (fault != NULL)
			return fault;
	}
	if (!parse_address(bytes_of(a->text[ATTR_ADDR]), &a->addr))
		a->addr = (struct netaddr){ 0 };
	if (a->addr.family != 0 && bytes_to_u64(bytes_of(a->text[ATTR_PORT]), UINT16_MAX, &port))
		a->addr.port = (uint16_t)port;
	return NULL;
}
