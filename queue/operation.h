/*
 * operation - what an operator may do to a message or to one of its recipients (the op field of `operate` and `log_operation`).
 * Numbers are formats: append only.
 */
#ifndef QUEUE_OPERATION_H
#define QUEUE_OPERATION_H

enum operation {
	OP_RETRY = 1,     /* due now, its destination's back-off lifted */
	OP_HOLD = 2,      /* tried no more until released; does not expire */
	OP_RELEASE = 3,
	OP_DELETE = 4,    /* gone without a bounce */
	OP_BOUNCE = 5,    /* unfinished recipients fail now with the given reason, and a bounce goes out */
	OP_FLUSH_DESTINATION = 6, /* reason = destination: all of it due now, back-off lifted */
	OP_EXPIRE = 7,    /* the queue's own, refused from an operator: the lifetime is over, unfinished recipients fail */
};
#define OPERATION_ALL_RCPTS UINT32_MAX

const char *operation_name(unsigned op);   /* "retry"; "?" */

#endif
