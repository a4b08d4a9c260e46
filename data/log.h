/* Keeps tenant tokens out of the server's log. */
#ifndef BH_DATA_LOG_H
#define BH_DATA_LOG_H

/** bh_log_install(): put our hook in front of the one that is there; once, at load. */
void bh_log_install(void);

/** bh_log_mask(text): overwrite the tokens in ${text} (NULL: nothing), in place. */
void bh_log_mask(char *text);

#endif
