/* The GPUs of this process as the script has them now, and the file that their books go to. Nothing here locks. */

#ifndef MACHINE_H
#define MACHINE_H

#include "script.h"

extern Board boards[MAX_BOARDS]; /* the first `script.boards` of them are there */
extern Script script;

/* Look at the script again, and bring every board to this instant. */
void machine_update(void);

void machine_write_books(void);

#endif
