/* etrn - smtpd's room: ETRN. See etrn.h. */
#include "etrn.h"

#include "common/channel.h"
#include "common/domain.h"
#include "common/io.h"
#include "common/log.h"
#include "common/paths.h"
#include "common/route.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool etrn_offered(const struct session *s)
{
	return s->may_relay || access_in(&s->access->etrns, &s->peer->addr);
}

/* RFC 1985 5.2: "@" stands for a domain with all below it, "#" for a queue with a name; there are none here. */
static struct bytes node_of(struct bytes argument)
{
	return argument.len > 0 && argument.at[0] == '@' ? bytes_slice(argument, 1, argument.len) : argument;
}

static bool is_delivered_here(const struct session *s, struct bytes domain)
{
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	struct route route = { .channel = CHANNEL_LOCAL };
	str_add_c(&text, "postmaster@");
	str_add(&text, domain);
	if (!text.failed && mailaddr_parse(str_bytes(&text), &addr) == ADDR_OK)
		route_find(s->settings, &addr, &route);
	str_free(&text);
	return route.channel == CHANNEL_LOCAL;
}

bool check_etrn(struct session *s, struct command *c)
{
	struct bytes node = node_of(c->argument);
	if (!etrn_offered(s))
		session_no_command(s);
	else if (node.len > 0 && node.at[0] == '#')
		session_reply(s, 458, "4.5.4", "Unable to queue messages for that node: queues have no names here");
	else if (!domain_valid(node, true))
		session_reply(s, 501, "5.5.4", "Syntax: ETRN domain, or ETRN @domain");
	else if (is_delivered_here(s, node))
		session_reply(s, 459, "4.7.1", "Node %.*s not allowed: its mail is delivered here", (int)node.len, node.at);
	else
		return true;
	return false;
}

/* One record, in one write of less than PIPE_BUF. False: nobody reads the fifo, it is full, or we are somebody who may not write to it. */
static bool tell_queued(const struct session *s, struct bytes domain, bool below)
{
	struct retry_domain wish = { .below = below, .domain = domain, .client = bytes_of(s->peer->text) };
	struct str octets = STR_INIT(1000);
	char path[1000];
	int n = snprintf(path, sizeof path, "%s/%s", path_spool, FIFO_RETRY);
	int fd = n > 0 && (size_t)n < sizeof path && retry_domain_encode(&wish, &octets) ? io_open_fifo_write(AT_FDCWD, path) : -1;
	bool told = fd >= 0 && write(fd, octets.at, octets.len) == (ssize_t)octets.len;
	if (!told)
		log_warn("cannot tell queued by %s: %s", FIFO_RETRY, strerror(errno));
	if (fd >= 0)
		close(fd);
	str_free(&octets);
	return told;
}

void act_etrn(struct session *s, struct command *c)
{
	struct bytes node = node_of(c->argument);
	if (tell_queued(s, node, node.len < c->argument.len))
		session_reply(s, 250, "2.0.0", "Queuing for node %.*s started", (int)node.len, node.at);
	else
		session_reply(s, 458, "4.3.0", "Unable to queue messages for node %.*s", (int)node.len, node.at);
}
