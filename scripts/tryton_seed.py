"""A company, a store's locations and products, and its stock as ``wms.csv`` has it, in a fresh Tryton database.

Run by ``tryton_server.sh`` inside the server's virtual environment: ``tryton_seed.py CONFIG DATABASE STORE``.
"""

import csv
import datetime
import sys
from decimal import Decimal
from pathlib import Path

from proteus import Model, Wizard
from proteus import config as proteus_config

configuration, database, store = sys.argv[1], sys.argv[2], Path(sys.argv[3])
config = proteus_config.set_trytond(database, user="admin", config_file=configuration)
Currency, Party, Company, User = (Model.get(n) for n in ("currency.currency", "party.party", "company.company", "res.user"))
euro = Currency(name="Euro", code="EUR", numeric_code="978", symbol="E", rounding=Decimal("0.01"), digits=2)
euro.rates.new(rate=Decimal("1.0"), date=datetime.date(2020, 1, 1))
euro.save()
party = Party(name="Test store")
party.save()
wizard = Wizard("company.company.config")
wizard.execute("company")
wizard.form.party, wizard.form.currency = party, euro
wizard.form.timezone = "UTC"
wizard.execute("add")
config._context = User.get_preferences(True, {})

with (store / "wms.csv").open(newline="") as f:
    rows = list(csv.DictReader(f))
with (store / "catalogue.csv").open(newline="") as f:
    products = list(csv.DictReader(f))

Location = Model.get("stock.location")
(warehouse,) = Location.find([("type", "=", "warehouse")], limit=1)
codes = list(dict.fromkeys(r["location_code"] for r in rows))
places = [Location(code=c, name=c, type="storage", parent=warehouse.storage_location) for c in codes]
Location.save(places)
place_of = {p.code: p.id for p in places}

(unit,) = Model.get("product.uom").find([("name", "=", "Unit")])
Template = Model.get("product.template")
new = [
    {
        "name": p["name"] or p["sku"],
        "default_uom": unit.id,
        "type": "goods",
        "list_price": Decimal(p["price"] or "0"),
        "products": [
            (
                "create",
                [
                    {
                        "suffix_code": p["sku"],
                        "cost_price": Decimal("0"),
                        "identifiers": [("create", [{"type": "ean", "code": p["gtin"]}])] if p["gtin"] else [],
                    }
                ],
            )
        ],
    }
    for p in products
]
for start in range(0, len(new), 50):  # SQLite takes no more at a time
    Template._proxy.create(new[start : start + 50], config.context)
product_of = {p.code: p.id for p in Model.get("product.product").find([])}

Inventory = Model.get("stock.inventory")
of_place: dict[str, list[tuple[int, float]]] = {}
for r in rows:
    stock = float(r["on_hand"]) + (float(r["backroom"] or 0) if r["scope"] == "site" else 0)
    if stock and r["sku"] in product_of:
        of_place.setdefault(r["location_code"], []).append((product_of[r["sku"]], stock))
values = [
    {
        "number": f"opening {code}",
        "location": place_of[code],
        "company": config.context["company"],
        "empty_quantity": "keep",
        "lines": [("create", [{"product": p, "quantity": q} for p, q in lines])],
    }
    for code, lines in of_place.items()
]
made = []
for start in range(0, len(values), 50):
    made += Inventory._proxy.create(values[start : start + 50], config.context)
Inventory._proxy.confirm(made, config.context)
print(f"{len(places)} locations, {len(product_of)} products, {len(made)} opening counts")
