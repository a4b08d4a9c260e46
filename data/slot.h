/*
 * The slots: which tenant each backend of this server is bound to, in shared
 * memory.  Workers look up their leader's tenant there, and a fence waits until
 * no slot holds an older epoch.
 */
#ifndef BH_DATA_SLOT_H
#define BH_DATA_SLOT_H

#include "postgres.h"

#include "core/tenant.h"
#include "core/token.h"
#include "data/tenant_table.h"

/** bh_slot_request() / bh_slot_startup(): shared memory, from the hooks of these names. */
void bh_slot_request(void);
void bh_slot_startup(void);

/**
 * bh_slot_publish(no, epoch, id):
 * This backend is about to be bound to tenant ${no}.  Whoever changes the epoch
 * after this call sees the slot; what was changed before it, its caller sees.
 */
void bh_slot_publish(int32 no, uint32 epoch, struct bh_str id);

/** bh_slot_publish_subject(subject): and ${subject} acts for it; after bh_slot_publish(). */
void bh_slot_publish_subject(struct bh_str subject);

/** bh_slot_publish_mode(mode): and it is of ${mode}; after bh_slot_publish(). */
void bh_slot_publish_mode(enum bh_mode mode);

/** bh_slot_clear(): this backend is bound to nobody; does nothing where it was not. */
void bh_slot_clear(void);

/**
 * bh_slot_read(backend, ret_id):
 * Number of the tenant in the slot of backend ${backend}, 0 where there is none;
 * ${ret_id}, its id, is borrowed and lasts as long as the slot is held.
 */
int32 bh_slot_read(int backend, const char **ret_id);

/** bh_slot_mode(backend): mode of the tenant in the slot of ${backend}, BH_MODE_NONE where there is
 * none. */
enum bh_mode bh_slot_mode(int backend);

/** bh_slot_subject(backend): who acts in the slot of ${backend}, borrowed; "" where nobody said. */
const char *bh_slot_subject(int backend);

/**
 * bh_slot_wait(no, epoch, wait_ms):
 * Wait until no transaction of this database is bound to tenant ${no} by an epoch
 * below ${epoch}.  After ${wait_ms} ends the connections that still are, and waits
 * as long again, at least a second.  False: some did not even end then.
 */
bool bh_slot_wait(int32 no, uint32 epoch, int64 wait_ms);

#endif
