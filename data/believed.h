/*
 * Which tokens to believe.  An edge sends the same token with many requests, so
 * the last ones that were right are kept, each until its place is taken.
 */
#ifndef BH_DATA_BELIEVED_H
#define BH_DATA_BELIEVED_H

#include "core/token.h"

/**
 * bh_believed_claims(text):
 * What the token ${text} says, borrowed until the next call.  Raises TN002 unless
 * its form, MAC, audience and times are right now, under a key that is valid now.
 */
const struct bh_token *bh_believed_claims(struct bh_str text);

#endif
