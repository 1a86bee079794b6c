/* chunk - smtpd's room: BDAT. See chunk.h. */
#include "chunk.h"

#include "gate.h"
#include "receive.h"

#include "common/log.h"

bool check_bdat(struct session *s, struct command *c)
{
	struct bytes rest = c->argument, size = bytes_cut(&rest, ' ');
	rest = bytes_trim(rest);
	c->chunk_last = bytes_equal_nocase(rest, LIT("LAST"));
	if (size.len <= 20 && bytes_to_u64(size, UINT64_MAX, &c->chunk_size) && (rest.len == 0 || c->chunk_last))
		return true;
	log_info("BDAT without a size from %s", s->peer->text);
	session_reply(s, 501, "5.5.4", "Syntax: BDAT SIZE [LAST]; without a size nobody knows where commands go on");
	s->end = END_ERRORS;
	return false;
}

void act_bdat(struct session *s, struct command *c)
{
	bool first = s->state == ST_RCPT, refused = first && !gate_data(s);
	if (first && !refused)
		receive_start(s);
	s->chunk = (struct chunk){
		.size = c->chunk_size, .left = c->chunk_size, .last = c->chunk_last, .refused = refused, .after = s->state,
		.wanted = (first && !refused) || s->state == ST_BDAT,
	};
	if (s->chunk.wanted)
		s->chunk.after = ST_BDAT;
	else
		s->data_began = clock_monotonic_ms();   /* there is no message that it could be a part of */
	if (c->chunk_size == 0 && !c->chunk_last)
		s->idle_commands++;
	s->state = ST_CHUNK;
}

static void answer_more(struct session *s)
{
	session_reply(s, 250, "2.0.0", "%llu octets", (unsigned long long)s->chunk.size);
	s->count[s->kind].ok++;
}

/* What is wrong with a message is said at the end of the chunk that it is wrong in: the transaction is over, and further chunks are not wanted. */
static void chunk_ended(struct session *s)
{
	struct bytes ending = { NULL, 0 };
	s->state = s->chunk.after;
	s->progress = true;
	if (s->chunk.refused)
		return;
	if (!s->chunk.wanted) {
		command_refuse_order(s);
		return;
	}
	if (s->chunk.last) {
		message_chunk_end(&s->message, &ending);
		receive_octets(s, ending, true);
	}
	if (s->chunk.last || s->message.faults != 0 || s->no_memory)
		receive_end(s);
	else
		answer_more(s);
}

void chunk_data(struct session *s)
{
	struct bytes rest = linein_rest(&s->lines), kept;
	struct bytes in = bytes_slice(rest, 0, s->chunk.left < rest.len ? (size_t)s->chunk.left : rest.len);
	s->chunk.left -= in.len;
	if (s->chunk.wanted) {
		message_chunk(&s->message, in, &kept);
		receive_octets(s, kept, false);
	}
	linein_take(&s->lines, in.len);
	if (s->chunk.left == 0)
		chunk_ended(s);
}
