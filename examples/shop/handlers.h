/* What each route does. */
#ifndef SHOP_HANDLERS_H
#define SHOP_HANDLERS_H

#include "http.h"

shop_handler shop_home;
shop_handler shop_orders_list;
shop_handler shop_orders_get;
shop_handler shop_orders_totals;
shop_handler shop_orders_create;
shop_handler shop_products_list;
shop_handler shop_products_get;
shop_handler shop_products_create;

#endif
