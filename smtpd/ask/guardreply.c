/* guardreply - smtpd's room: guard's numbers in words. See guardreply.h. */
#include "guardreply.h"

#include "common/clock.h"

bool guardreply_take(const struct record *record, struct guard_answer *answer_r)
{
	return record->type == REC_guard_answer && guard_answer_decode(record->payload, answer_r) && answer_r->verdict < GUARD_VERDICTS
		&& answer_r->subject < LIMIT_SUBJECTS && answer_r->what < ROW_WHATS && (answer_r->verdict != GUARD_OVER || answer_r->what < LIMIT_WHATS);
}

static const char *const from_whom[LIMIT_SUBJECTS] = { "from your address", "from your network", "by your login", "to this domain" };

/* "connections at a time from your address: 21, and 20 are allowed" */
static void say_limit(const struct guard_answer *a, struct str *out)
{
	str_addf(out, "Too many %s%s %s: %llu", limit_what_name[a->what], a->window_s == 0 ? " at a time" : "", from_whom[a->subject], (unsigned long long)a->count);
	if (a->window_s > 0) {
		str_add_c(out, " within ");
		clock_span((uint64_t)a->window_s * SECOND_MS, out);
	}
	str_addf(out, ", and %llu are allowed", (unsigned long long)a->limit);
	if (a->wait_s > 0) {
		str_add_c(out, "; come again in ");
		clock_span((uint64_t)a->wait_s * SECOND_MS, out);
	}
}

static void say_unknown(const struct guard_answer *a, struct str *out)
{
	str_addf(out, "Too many unknown recipients from your address: %llu within ", (unsigned long long)a->count);
	clock_span((uint64_t)a->window_s * SECOND_MS, out);
	str_addf(out, ", and %llu are allowed", (unsigned long long)(a->limit > 0 ? a->limit - 1 : 0));
	if (a->verdict != GUARD_BANNED)
		return;
	str_add_c(out, "; come again in ");
	clock_span((uint64_t)a->wait_s * SECOND_MS, out);
}

bool guardreply_of(enum guard_event event, const struct guard_answer *a, struct guard_reply *r_r, struct str *text)
{
	switch (a->verdict) {
	case GUARD_OVER:
		*r_r = (struct guard_reply){ event == GUARD_CONNECT ? 421 : event == GUARD_RCPT ? 452 : 450, event == GUARD_CONNECT ? "4.7.0" : "4.7.1", "limits",
			event == GUARD_CONNECT, false };
		say_limit(a, text);
		return true;
	case GUARD_BANNED:
	case GUARD_HANGUP:
		*r_r = (struct guard_reply){ 421, "4.7.0", a->verdict == GUARD_BANNED ? "banafter" : "hangupafter", true, false };
		say_unknown(a, text);
		return true;
	case GUARD_GREY:
	case GUARD_GREY_LOG:
		*r_r = (struct guard_reply){ 451, "4.7.1", "greylist", false, a->verdict == GUARD_GREY_LOG };
		str_add_c(text, "Greylisted: this network has not sent from this sender to this recipient before; come again in ");
		clock_span((uint64_t)a->wait_s * SECOND_MS, text);
		return true;
	default:
		return false;
	}
}
