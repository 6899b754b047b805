/* main.c - the program `varve`. All of it is in the library; the commands are in cmd_*.c and
 * serve.c. */
#include "service/command.h"

int main(int argc, char *argv[])
{
    return command_dispatch(argc, argv);
}
