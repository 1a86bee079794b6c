/*
 * enqueue - the two ways to use it, behind one thin main. Room: queue (enqueue). Both leave no file or fifo behind that queued
 * has not got. They block on their caller and on queued.
 */
#ifndef QUEUE_ENQUEUE_H
#define QUEUE_ENQUEUE_H

#include "caller.h"
#include "parcel.h"

/* Message on fd 0, then envelope on fd 1. */
enum enqueue_exit enqueue_once(const struct caller *caller);

/* Messages in records on fd 0, answers on fd 1, until the end of file: ENQ_OK. Anything else is why the session broke off. */
enum enqueue_exit enqueue_session(const struct caller *caller);

/* A caller with qmail's contract has no way to say where in his Received header the id belongs: MSGID_PLACEHOLDER is looked for, behind
 * "id " in the first header, if that is Received. `start`: the message's first octets. Its offset; 0: none. */
uint32_t received_id_offset(struct bytes start);

#endif
