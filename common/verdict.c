/* verdict - common room: every conversion between replies, results, exit codes and enhanced codes. See verdict.h. */
#include "verdict.h"

#include <errno.h>

#include "exits.h"

static const char *const stage_names[STAGE_COUNT] = {
	"none", "dns", "connect", "greeting", "tls", "helo", "auth", "mail", "rcpt", "data", "final", "local", "queue", "final-dsn",
};

const char *stage_name(enum stage stage)
{
	return (unsigned)stage < STAGE_COUNT ? stage_names[stage] : "?";
}

const char *dsn_action_name(unsigned action)
{
	static const char *const names[DSN_ACTIONS] = { "failed", "delivered", "relayed", "delayed" };
	return action < DSN_ACTIONS ? names[action] : "?";
}

const char *verdict_name(enum verdict verdict)
{
	switch (verdict) {
	case V_OK: return "ok";
	case V_TEMP: return "temp";
	case V_PERM: return "perm";
	}
	return "temp";   /* a number from elsewhere: what is unknown is V_TEMP */
}

enum verdict verdict_of_code(unsigned smtp_code)
{
	switch (smtp_code / 100) {
	case 2:
	case 3: return V_OK;
	case 5: return V_PERM;
	default: return V_TEMP;
	}
}

/* ---- enqueue ---- */

/* qmail's ranges, so that any qmail-queue may stand in its place: 11 to 40 are permanent, whatever they mean. */
enum verdict verdict_of_enqueue(int exit_code)
{
	if (exit_code == ENQ_OK)
		return V_OK;
	return exit_code >= 11 && exit_code <= 40 ? V_PERM : V_TEMP;
}

struct enqueue_row { int exit_code; uint16_t code; struct enhanced enhanced; struct bytes text; };
#define ROW(exit_code, code, a, b, c, text) { (exit_code), (code), { (a), (b), (c) }, { (text), sizeof(text) - 1 } }

static const struct enqueue_row enqueue_rows[] = {
	ROW(ENQ_OK,            250, 2, 0, 0, "queued"),
	ROW(ENQ_BAD_ADDRESS,   553, 5, 1, 3, "an address is malformed or too long"),
	ROW(ENQ_REFUSED,       554, 5, 3, 0, "the queue refuses this message"),
	ROW(ENQ_OUT_OF_MEMORY, 451, 4, 3, 0, "out of memory; try again later"),
	ROW(ENQ_TIMEOUT,       451, 4, 3, 0, "the queue took too long; try again later"),
	ROW(ENQ_WRITE_ERROR,   451, 4, 3, 0, "the message could not be written; try again later"),
	ROW(ENQ_READ_ERROR,    451, 4, 3, 0, "the message could not be read; try again later"),
	ROW(ENQ_BAD_CONFIG,    451, 4, 3, 5, "the queue is misconfigured; try again later"),
	ROW(ENQ_NO_SPACE,      452, 4, 3, 1, "not enough disk space; try again later"),
	ROW(ENQ_NO_SPOOL,      451, 4, 3, 0, "the spool cannot be reached; try again later"),
	ROW(ENQ_NO_INTAKE,     451, 4, 3, 0, "the intake file cannot be made; try again later"),
	ROW(ENQ_QUEUE_ERROR,   451, 4, 3, 0, "the queue could not store the message; try again later"),
	ROW(ENQ_BUG,           451, 4, 3, 0, "internal error; try again later"),
	ROW(ENQ_BAD_ENVELOPE,  451, 4, 3, 0, "the envelope was not understood; try again later"),
};

/* For codes that only another qmail-queue gives. */
static const struct enqueue_row unknown_perm = ROW(-1, 554, 5, 3, 0, "the message is refused");
static const struct enqueue_row unknown_temp = ROW(-1, 451, 4, 3, 0, "the message could not be queued; try again later");

struct outcome outcome_of_enqueue(int exit_code)
{
	enum verdict verdict = verdict_of_enqueue(exit_code);
	const struct enqueue_row *row = verdict == V_PERM ? &unknown_perm : &unknown_temp;

	for (size_t i = 0; i < sizeof enqueue_rows / sizeof enqueue_rows[0]; i++)
		if (enqueue_rows[i].exit_code == exit_code)
			row = &enqueue_rows[i];
	return (struct outcome){ .verdict = verdict, .stage = STAGE_QUEUE, .code = row->code, .enhanced = row->enhanced, .text = row->text };
}

/* ---- our own results ---- */

struct outcome outcome_make(enum verdict verdict, enum stage stage, const char *enhanced, struct bytes text)
{
	struct outcome outcome = { .verdict = verdict, .stage = stage, .text = text };

	if (enhanced)
		enhanced_parse(bytes_of(enhanced), 0, &outcome.enhanced);
	return outcome;
}

/* All of them temporary: a full disk is emptied, a wrong owner is corrected, and nobody's mail is returned for it. */
static struct enhanced enhanced_of_errno(int error)
{
	switch (error) {
	case ENOSPC: return (struct enhanced){ 4, 3, 1 };
	case EDQUOT: return (struct enhanced){ 4, 2, 2 };
	case EACCES:
	case EPERM:
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EROFS: return (struct enhanced){ 4, 3, 5 };
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ETIMEDOUT: return (struct enhanced){ 4, 4, 1 };
	case ECONNRESET:
	case EPIPE: return (struct enhanced){ 4, 4, 2 };
	default: return (struct enhanced){ 4, 3, 0 };
	}
}

struct outcome outcome_of_errno(enum stage stage, int error, struct bytes text)
{
	return (struct outcome){ .verdict = V_TEMP, .stage = stage, .enhanced = enhanced_of_errno(error), .error = error, .text = text };
}

/* ---- enhanced codes ---- */

/* One to three digits up to *offset_r, which moves behind them. */
static bool read_number(struct bytes text, size_t *offset_r, uint16_t *value_r)
{
	size_t from = *offset_r, to = from;
	uint64_t value;

	while (to < text.len && text.at[to] >= '0' && text.at[to] <= '9')
		to++;
	if (to - from > 3 || !bytes_to_u64(bytes_slice(text, from, to), 999, &value))
		return false;
	*offset_r = to;
	*value_r = (uint16_t)value;
	return true;
}

static bool read_dot(struct bytes text, size_t *offset_r)
{
	if (*offset_r >= text.len || text.at[*offset_r] != '.')
		return false;
	++*offset_r;
	return true;
}

size_t enhanced_parse(struct bytes text, unsigned smtp_code, struct enhanced *e_r)
{
	uint16_t class, subject, detail;
	size_t at = 0;

	if (!read_number(text, &at, &class) || at != 1 || !read_dot(text, &at) || !read_number(text, &at, &subject) || !read_dot(text, &at) ||
	    !read_number(text, &at, &detail))
		return 0;
	if (at < text.len && text.at[at] != ' ' && text.at[at] != '\t')
		return 0;
	/* RFC 2034 4: the class must be 2, 4 or 5, and the code's first digit. */
	if ((class != 2 && class != 4 && class != 5) || (smtp_code && smtp_code / 100 != class))
		return 0;
	*e_r = (struct enhanced){ (uint8_t)class, subject, detail };
	return at;
}

void enhanced_format(struct enhanced e, struct str *out)
{
	if (e.class)
		str_addf(out, "%u.%u.%u", (unsigned)e.class, (unsigned)e.subject, (unsigned)e.detail);
}

struct enhanced enhanced_or_default(struct enhanced e, enum verdict verdict)
{
	if (e.class)
		return e;
	return (struct enhanced){ verdict == V_OK ? 2 : verdict == V_PERM ? 5 : 4, 0, 0 };
}
