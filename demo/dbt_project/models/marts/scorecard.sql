-- The diamond closes: both sides are always of the same moment, because they refresh in one transaction.
{{ config(schedule='1s') }}

select
    f.carrier,
    f.airline,
    f.planes,
    f.manufacturers,
    f.avg_seats,
    p.flights,
    p.on_time_percent,
    round(p.flights::numeric / f.planes, 1) as flights_per_plane
from {{ ref('fleet_by_carrier') }} as f
inner join {{ ref('punctuality') }} as p on p.carrier = f.carrier
