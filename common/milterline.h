/*
 * milterline - what a line of the setting `milters` says.
 *
 *   unix:/PATH | inet:ADDRESS:PORT | inet:localhost:PORT     and, with blanks between them, in any order:
 *   name=WORD  default=accept|tempfail|reject  connect=SECONDS  timeout=SECONDS  content=SECONDS
 */
#ifndef COMMON_MILTERLINE_H
#define COMMON_MILTERLINE_H

#include "netaddr.h"

enum milter_default { MILTER_TEMPFAIL, MILTER_ACCEPT, MILTER_REJECT };

struct milter_line {
	struct bytes name;                /* for the log; the address when none is given */
	struct bytes path;                /* empty: `addr` is where it listens */
	struct netaddr addr;
	enum milter_default when_away;
	uint64_t connect_ms, command_ms, content_ms;
};

/* Views point into `line`. False: the line is none. */
bool milter_line_parse(struct bytes line, struct milter_line *m_r);

#endif
